export class LatchkeyError extends Error {
    code;
    status;
    retryAfter;
    fields;
    constructor(code, message, { status = 0, retryAfter, body } = {}) {
        super(message);
        this.name = 'LatchkeyError';
        this.code = code;
        this.status = status;
        this.retryAfter = retryAfter;
        this.fields = Object.fromEntries((body?.errors ?? []).map(({ pointer, detail }) => [pointer.slice(1), detail]));
    }
}
const attemptMs = 2500;
const patienceMs = 9000;
const callMs = 15_000;
const signedOut = Object.freeze({ status: 'signed_out' });
const ignore = () => { };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const between = (least, most) => least + Math.random() * (most - least);
export function createClient({ url, transport, storage, fetch: ownFetch, apis }) {
    const page = globalThis.window;
    const base = `${url.replace(/\/+$/, '')}/api/v1`;
    const key = `latchkey:${base}`;
    const inCookie = transport !== 'storage';
    const send = (input, init) => (ownFetch ?? fetch)(input, init);
    const listeners = new Set();
    const disposal = new AbortController();
    let held;
    let snapshot = signedOut;
    let ended;
    let renewing;
    let flight = new AbortController();
    let unsentSignOut;
    let timer;
    let channel;
    let memory = null;
    let isStored = true;
    function useStorage(use) {
        try {
            if (isStored)
                return use(storage ?? page.localStorage);
        }
        catch {
            isStored = false;
        }
    }
    function read() {
        const text = useStorage((storage) => storage.getItem(key));
        try {
            const stored = JSON.parse((isStored ? text : memory) ?? '');
            return stored.session && stored.generation >= 0 ? stored : undefined;
        }
        catch {
            return undefined;
        }
    }
    function write(next) {
        memory = next ? JSON.stringify(inCookie ? { ...next, accessToken: undefined } : next) : null;
        useStorage((storage) => (memory === null ? storage.removeItem(key) : storage.setItem(key, memory)));
    }
    let mayHaveCookie = inCookie && page !== undefined && read() === undefined && !isStored;
    function lasts(seconds) {
        return held?.accessToken !== undefined && held.until - Date.now() > seconds * 1000;
    }
    function hold(next) {
        if (next === held)
            return;
        held = next;
        setTimer();
        if (next?.session === snapshot.session)
            return;
        flight.abort();
        flight = new AbortController();
        snapshot = next ? Object.freeze({ status: 'signed_in', session: next.session }) : signedOut;
        listeners.forEach(tell);
    }
    function tell(listener) {
        try {
            listener(snapshot);
        }
        catch (error) {
            reportError(error);
        }
    }
    function begin(next) {
        mayHaveCookie = false;
        write(next);
        hold(next);
        channel?.postMessage(next);
    }
    function end() {
        ended = held?.session;
        mayHaveCookie = false;
        write(undefined);
        channel?.postMessage({ session: ended });
        hold(undefined);
    }
    function look() {
        const stored = read();
        if (stored && stored.session === ended)
            write(undefined);
        if (!stored || stored.session === ended)
            return hold(undefined);
        if (stored.session !== held?.session)
            return hold(stored);
        if (stored.generation < held.generation)
            return write(held);
        if (stored.generation > held.generation)
            hold(inCookie ? { ...held, generation: stored.generation } : stored);
    }
    function hear({ data }) {
        if (data.generation === undefined)
            ended = data.session;
        look();
        if (data.generation === undefined || data.session === ended)
            return;
        if (held?.session === data.session ? held.generation > data.generation : held && isStored)
            return;
        mayHaveCookie = false;
        write(data);
        hold(data);
    }
    function setTimer() {
        clearTimeout(timer);
        if (!held || page?.document.visibilityState !== 'visible' || disposal.signal.aborted)
            return;
        const early = held.until - Date.now() - between(45_000, 75_000);
        timer = setTimeout(() => void renew().catch(setTimer), Math.max(early, between(15_000, 30_000)));
    }
    function wake() {
        look();
        setTimer();
        const again = unsentSignOut;
        unsentSignOut = undefined;
        void again?.().catch(ignore);
        if (held && !lasts(60) && page?.document.visibilityState === 'visible')
            void renew().catch(ignore);
    }
    function requireWindow() {
        if (!page)
            throw new LatchkeyError('no_window', 'This call needs a browser: there is no window here.');
    }
    async function ask(path, init, ms = callMs, via = send) {
        requireWindow();
        try {
            const reply = await via(base + path, {
                credentials: inCookie ? 'include' : 'omit',
                ...init,
                signal: AbortSignal.any([AbortSignal.timeout(ms), ...(init.signal ? [init.signal] : [])]),
                headers: { ...(inCookie && { 'x-token-transport': 'cookie' }), ...init.headers },
            });
            const seconds = Number(reply.headers.get('retry-after') ?? NaN);
            const body = (await reply.json().catch(ignore));
            return { status: reply.status, retryAfter: seconds >= 0 ? seconds : undefined, body };
        }
        catch {
            return { status: 0, retryAfter: undefined, body: undefined };
        }
    }
    async function insist(path, next) {
        const since = performance.now();
        for (let attempt = 1;; attempt++) {
            const init = next();
            if (!init)
                return undefined;
            const reply = await ask(path, init, attemptMs);
            if (reply.status === 204 || (reply.status === 200 && reply.body?.access_token))
                return reply;
            if ([400, 401, 403].includes(reply.status) && reply.body?.code)
                return reply;
            const ms = Math.max((reply.retryAfter ?? 0) * 1000, between(200, 400) * 2 ** attempt);
            if (attempt === 3 || performance.now() - since + ms > patienceMs)
                throw errorOf(reply);
            await pause(ms);
        }
    }
    function renew() {
        renewing ??= attemptRenewal().finally(() => (renewing = undefined));
        return renewing;
    }
    async function attemptRenewal() {
        const since = performance.now();
        const former = held?.accessToken;
        let sent;
        for (let inVain = 0; inVain < 3;) {
            const reply = await insist('/refresh', () => {
                look();
                sent = held;
                const isDone = held ? held.accessToken !== former && lasts(0) : !mayHaveCookie;
                if (isDone)
                    return undefined;
                return { ...json(inCookie ? {} : { refresh_token: held?.refreshToken }), signal: flight.signal };
            });
            if (!reply || (reply.status === 200 && commit(heldOf(reply))))
                return;
            look();
            if (held?.session === sent?.session && held?.generation === sent?.generation) {
                if (reply.status !== 200 && reply.body?.code !== 'refresh_token_superseded')
                    return end();
                inVain++;
            }
            if (performance.now() - since > patienceMs)
                throw errorOf(reply);
            await pause(between(100, 300));
        }
        end();
    }
    function commit(next) {
        look();
        if (!held && !mayHaveCookie)
            return true;
        if (held && held.session !== next.session)
            return false;
        if (!held || held.generation <= next.generation)
            begin(next);
        else if (!lasts(0))
            hold({ ...held, accessToken: next.accessToken, until: next.until });
        return true;
    }
    async function getAccessToken({ minValidity = 30 } = {}) {
        look();
        if (lasts(minValidity))
            return held?.accessToken;
        if (held || mayHaveCookie)
            await renew().catch((error) => {
                if (!lasts(0))
                    throw error;
            });
        return held?.accessToken;
    }
    async function fetchWithToken(input, init) {
        const isOnce = init?.body instanceof ReadableStream || (input instanceof Request && !/^(GET|HEAD)$/.test(input.method));
        const token = await getAccessToken();
        const session = held?.session;
        const attempt = (token) => {
            const request = new Request(input, init);
            if (token)
                request.headers.set('authorization', `Bearer ${token}`);
            return send(request);
        };
        const reply = await attempt(token);
        if (!token || reply.status !== 401)
            return reply;
        const body = (await reply.clone().json().catch(ignore));
        if (!/^(token_|session_|user_)/.test(body?.code ?? ''))
            return reply;
        if (held?.accessToken === token)
            await renew().catch(ignore);
        const isNew = held?.session === session && held?.accessToken !== token;
        return isNew && !isOnce ? attempt(held?.accessToken) : reply;
    }
    async function call(path, init, via = send) {
        const reply = await ask(path, init, callMs, via);
        if (reply.status < 200 || reply.status > 299)
            throw errorOf(reply);
        return reply;
    }
    function tellOthers() {
        try {
            if (!storage || storage === page?.localStorage)
                channel = new BroadcastChannel(key);
            channel?.addEventListener('message', hear);
        }
        catch {
        }
    }
    if (page) {
        const options = { signal: disposal.signal };
        const dormant = () => channel?.close();
        page.addEventListener('storage', (event) => [key, null].includes(event.key) && look(), options);
        page.addEventListener('online', wake, options);
        page.document.addEventListener('visibilitychange', wake, options);
        page.addEventListener('pagehide', dormant, options);
        page.addEventListener('pageshow', (event) => (event.persisted && tellOthers(), wake()), options);
        disposal.signal.addEventListener('abort', dormant);
        tellOthers();
        look();
    }
    return {
        getAccessToken,
        fetch(input, init) {
            requireWindow();
            const target = new URL(input instanceof Request ? input.url : input, page?.document.baseURI);
            const origins = apis ?? [new URL(base, page?.document.baseURI).origin];
            return origins.includes(target.origin) ? fetchWithToken(input, init) : send(input, init);
        },
        async signIn(credentials) {
            await renewing?.catch(ignore);
            const body = new URLSearchParams({ username: credentials.username, password: credentials.password });
            const next = heldOf(await call('/token', { method: 'POST', body }));
            look();
            const former = held;
            begin(next);
            ended = former?.session;
            if (former?.accessToken)
                void ask('/logout', { ...signOutOf(former, 'local'), credentials: 'omit' }).catch(ignore);
            return { status: 'signed_in' };
        },
        async signUp(registration) {
            return (await call('/users', json(registration))).body;
        },
        async signOut({ scope = 'global' } = {}) {
            look();
            if (!held)
                return;
            if (scope === 'others')
                return void (await call('/logout', json({ scope }), fetchWithToken));
            const init = signOutOf(held, scope);
            end();
            const attempt = async () => {
                try {
                    await insist('/logout', () => (inCookie && read() ? undefined : init));
                }
                catch (error) {
                    unsentSignOut = attempt;
                    throw error;
                }
            };
            return attempt();
        },
        async user() {
            return (await call('/me', {}, fetchWithToken)).body;
        },
        sessions: {
            async list() {
                return (await call('/me/sessions', {}, fetchWithToken)).body;
            },
            async end(id) {
                await call(`/me/sessions/${id}`, { method: 'DELETE' }, fetchWithToken);
            },
        },
        async forgotPassword(email) {
            await call('/forgot-password', json({ email }));
        },
        async resetPassword(reset) {
            await call('/reset-password', json({ token: reset.token, new_password: reset.newPassword }));
        },
        async changePassword(change) {
            const body = { current_password: change.currentPassword, new_password: change.newPassword };
            await call('/me/password', json(body), fetchWithToken);
        },
        onChange(listener) {
            listeners.add(listener);
            tell(listener);
            return () => void listeners.delete(listener);
        },
        getSnapshot: () => snapshot,
        dispose() {
            disposal.abort();
            clearTimeout(timer);
            listeners.clear();
        },
    };
}
function json(body) {
    return { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}
function signOutOf({ accessToken, refreshToken }, scope) {
    const { headers, ...init } = json({ scope, refresh_token: refreshToken });
    return {
        ...init,
        keepalive: true,
        headers: { ...headers, ...(accessToken && { authorization: `Bearer ${accessToken}` }) },
    };
}
function heldOf({ body }) {
    const { access_token: accessToken, refresh_token: refreshToken, expires_in: seconds = 0 } = body ?? {};
    const [session, generation] = refreshToken?.split('.') ?? [body?.session_id, body?.generation];
    return {
        session: String(session),
        generation: Number(generation),
        until: Date.now() + seconds * 1000,
        accessToken,
        refreshToken,
    };
}
function errorOf(reply) {
    const { code = 'unreachable', detail = 'The service cannot be reached.' } = reply.body ?? {};
    return new LatchkeyError(code, detail, reply);
}
