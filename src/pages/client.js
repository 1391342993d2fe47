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
const signedOut = { status: 'signed_out' };
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
    let notBefore = 0;
    let refusal;
    let flight = new AbortController();
    let unsentSignOut;
    let signingOut;
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
        const text = remember(next);
        useStorage((storage) => {
            if (text === null)
                return storage.removeItem(key);
            try {
                storage.setItem(key, text);
            }
            catch {
                storage.removeItem(key);
                storage.setItem(key, text);
            }
        });
    }
    function remember(next) {
        return (memory = next ? JSON.stringify(inCookie ? { ...next, accessToken: undefined } : next) : null);
    }
    const isVisible = () => page?.document.visibilityState === 'visible';
    function lasts(seconds) {
        return held?.accessToken !== undefined && held.until - Date.now() > seconds * 1000;
    }
    function hold(next) {
        if (next === held)
            return;
        held = next;
        remember(next);
        setTimer();
        if (next?.session === snapshot.session)
            return;
        flight.abort();
        flight = new AbortController();
        snapshot = next ? { status: 'signed_in', session: next.session } : signedOut;
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
        write(next);
        hold(next);
        channel?.postMessage(next);
    }
    function end() {
        ended = held?.session ?? ended;
        write(undefined);
        channel?.postMessage({ session: ended });
        hold(undefined);
    }
    function look() {
        const stored = read();
        if (!stored)
            return hold(undefined);
        if (stored.session === ended) {
            const mine = held?.session === ended ? undefined : held;
            write(mine);
            return hold(mine);
        }
        if (stored.session !== held?.session)
            return hold(stored);
        if (stored.generation < held.generation)
            return write(held);
        if (stored.generation > held.generation)
            hold(inCookie ? { ...held, generation: stored.generation } : stored);
    }
    function hear({ data }) {
        if (data.generation === undefined)
            ended = data.session ?? ended;
        look();
        if (data.generation === undefined || data.session === ended)
            return;
        if (held?.session === data.session ? held.generation > data.generation : held && isStored)
            return;
        write(data);
        hold(data);
    }
    function setTimer() {
        clearTimeout(timer);
        if (!held || !isVisible() || disposal.signal.aborted)
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
        if (held && !lasts(60) && isVisible())
            void renew().catch(ignore);
    }
    function requireWindow() {
        if (!page)
            throw new LatchkeyError('no_window', 'There is no window.');
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
            const body = (await reply.json().catch(ignore));
            return { status: reply.status, retryAfter: Number(reply.headers.get('retry-after')) || undefined, body };
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
        if (performance.now() < notBefore)
            return Promise.reject(refusal);
        renewing ??= attemptRenewal()
            .catch((error) => {
            refusal = error;
            notBefore = performance.now() + (error.retryAfter ?? 0) * 1000;
            throw error;
        })
            .finally(() => (renewing = undefined));
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
                const isDone = !held || (held.accessToken !== former && lasts(0));
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
        if (!held)
            return true;
        if (held.session !== next.session)
            return false;
        if (held.generation <= next.generation)
            begin(next);
        else if (!lasts(0))
            hold({ ...held, accessToken: next.accessToken, until: next.until });
        return true;
    }
    async function getAccessToken({ minValidity = 30 } = {}) {
        look();
        if (lasts(minValidity))
            return held?.accessToken;
        if (held)
            await renew().catch((error) => {
                if (!lasts(0))
                    throw error;
            });
        return held?.accessToken;
    }
    async function fetchWithToken(request, isStream) {
        const again = isStream ? undefined : request.clone();
        const attempt = (request, token) => {
            if (token)
                request.headers.set('authorization', `Bearer ${token}`);
            return send(request);
        };
        const { session } = snapshot;
        const token = await getAccessToken();
        if (session && held && held.session !== session)
            throw new LatchkeyError('session_revoked', 'Another session.');
        const reply = await attempt(request, token);
        if (!token || reply.status !== 401)
            return reply;
        const body = (await reply.clone().json().catch(ignore));
        if (!/^(token|session|user)_/.test(String(body?.code)))
            return reply;
        if (held?.accessToken === token)
            await renew().catch(ignore);
        const isNew = held?.session === session && held?.accessToken !== token;
        return isNew && again ? attempt(again, held?.accessToken) : reply;
    }
    const withToken = (input, init) => fetchWithToken(new Request(input, init));
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
        const dormant = () => {
            channel?.close();
            channel = undefined;
        };
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
            const originOf = (url) => new URL(url, page?.document.baseURI).origin;
            const request = new Request(input, init);
            return (apis ?? [originOf(base)]).includes(originOf(request.url))
                ? fetchWithToken(request, (init?.body ?? input.body) instanceof ReadableStream)
                : send(request);
        },
        async signIn(credentials) {
            await Promise.allSettled([renewing, signingOut]);
            const body = new URLSearchParams({ username: credentials.username, password: credentials.password });
            const next = heldOf(await call('/token', { method: 'POST', body }));
            look();
            const former = held;
            ended = former?.session ?? ended;
            begin(next);
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
                return void (await call('/logout', json({ scope }), withToken));
            const init = signOutOf(held, scope);
            end();
            const attempt = async () => {
                try {
                    await insist('/logout', () => (read() ? { ...init, credentials: 'omit' } : init));
                }
                catch (error) {
                    unsentSignOut = attempt;
                    throw error;
                }
            };
            return (signingOut = attempt());
        },
        async user() {
            return (await call('/me', {}, withToken)).body;
        },
        sessions: {
            async list() {
                return (await call('/me/sessions', {}, withToken)).body;
            },
            async end(id) {
                await call(`/me/sessions/${id}`, { method: 'DELETE' }, withToken);
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
            await call('/me/password', json(body), withToken);
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
    const { code = 'unreachable', detail = 'The service does not answer.' } = reply.body ?? {};
    return new LatchkeyError(code, detail, reply);
}
