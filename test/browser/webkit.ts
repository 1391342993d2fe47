import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import type { Browser, Tab } from './browser.ts'

const driver = '/usr/bin/WebKitWebDriver'
const binary = ['4.1', '4.0', '6.0']
  .map((version) => `/usr/lib/x86_64-linux-gnu/webkit2gtk-${version}/MiniBrowser`)
  .find((path) => existsSync(path))
export const noWebKit =
  existsSync(driver) && binary !== undefined && existsSync('/usr/bin/Xvfb')
    ? undefined
    : 'skipped: there is no WebKitWebDriver, MiniBrowser or Xvfb'

type Command = <T>(method: string, path: string, body?: object, seconds?: number) => Promise<T>

/** WebKitGTK by its WebDriver (W3C), on a display of its own. A driver has one session at a time. */
export async function launchWebKit(): Promise<Browser> {
  const screen = spawn('Xvfb', ['-displayfd', '3'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] })
  const [display] = (await once(createInterface(screen.stdio[3] as Readable), 'line')) as [string]
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  // As root it has no sandbox, and a virtual display has no graphics card.
  const env = { WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1', WEBKIT_DISABLE_DMABUF_RENDERER: '1' }
  const child = spawn(driver, [`--port=${port}`], {
    env: { ...process.env, ...env, DISPLAY: `:${display}` },
    stdio: 'ignore',
  })

  const command: Command = async (method, path, body, seconds = 60) => {
    const signal = AbortSignal.timeout(seconds * 1000)
    const init = { method, signal, ...(body && { body: JSON.stringify(body) }) }
    const reply = await fetch(`http://127.0.0.1:${port}${path}`, init).catch((cause: unknown) => {
      throw new Error(`no answer to ${method} ${path} ${init.body?.slice(0, 200) ?? ''}`, { cause })
    })
    const { value } = (await reply.json()) as { value: { error?: string; message?: string } | null }
    if (value?.error !== undefined) throw new Error(`${value.error}: ${value.message}`)
    return value as never
  }
  while (
    !(await command('GET', '/status').then(
      () => true,
      () => false,
    ))
  )
    await pause(20)
  return {
    open: () => openSession(command),
    close: async () => {
      child.kill()
      screen.kill()
    },
  }
}

async function openSession(command: Command) {
  const alwaysMatch = { 'webkitgtk:browserOptions': { binary, args: ['--automation'] } }
  const { sessionId } = await command<{ sessionId: string }>('POST', '/session', { capabilities: { alwaysMatch } })
  const session = `/session/${sessionId}`
  let turn: Promise<unknown> = Promise.resolve()
  /** A driver does one thing at a time, in one window. */
  const inWindow = <T>(handle: string, task: () => Promise<T>): Promise<T> => {
    const mine = turn.then(async () => {
      await command('POST', `${session}/window`, { handle })
      return task()
    })
    turn = mine.catch(() => {})
    return mine
  }
  const free = [await command<string>('GET', `${session}/window`)]
  const openTab = async () => {
    // From a window that is there: the last one may have been closed.
    await turn
    const [any = ''] = await command<string[]>('GET', `${session}/window/handles`)
    const opened = await inWindow(any, () =>
      command<{ handle: string }>('POST', `${session}/window/new`, { type: 'tab' }),
    )
    return opened.handle
  }
  const tab = async () => {
    const handle = free.pop() ?? (await openTab())
    return tabOf((task) => inWindow(handle, task), session, command)
  }
  return { tab, close: () => turn.then(() => command('DELETE', session)) }
}

function tabOf(inWindow: <T>(task: () => Promise<T>) => Promise<T>, session: string, command: Command): Tab {
  let calls = 0
  const run = <T>(script: string, args: unknown[], seconds?: number) =>
    inWindow(() => command<T>('POST', `${session}/execute/sync`, { script, args }, seconds))
  /** Begins in one command and asks for the result in others, because what is awaited may need another tab. */
  const evaluate = async (what: unknown, argument?: unknown): Promise<unknown> => {
    const id = `call${calls++}`
    await run(begin, [id, typeof what === 'function' ? `(${what.toString()})` : String(what), argument ?? null])
    for (;;) {
      // A page that enters or leaves the back-forward cache just then never answers: it is asked again.
      const result = await run<[value: unknown, error: string | null] | null>(ask, [id], 5).catch((error: Error) => {
        if ((error.cause as Error | undefined)?.name !== 'TimeoutError') throw error
        return null
      })
      if (result?.[1]) throw new Error(result[1])
      if (result) return result[0] ?? undefined
      await pause(20)
    }
  }
  const tab = {
    evaluate,
    waitForFunction: async (what: unknown, argument?: unknown) => {
      while (!(await evaluate(what, argument))) await pause(20)
    },
    goto: (url: string) => inWindow(() => command('POST', `${session}/url`, { url })),
    close: () => inWindow(() => command('DELETE', `${session}/window`)),
  }
  return tab as unknown as Tab
}

const begin = `
  const [id, source, argument] = arguments
  const slot = ((globalThis.calls ??= {})[id] = {})
  const settle = (more) => Object.assign(slot, { isDone: true }, more)
  Promise.resolve().then(() => {
    const what = (0, eval)(source)
    return typeof what === 'function' ? what(argument ?? undefined) : what
  }).then((value) => settle({ value }), (error) => settle({ error: String(error) }))`
/** A page that has gone meanwhile has nothing more to say. */
const ask = `
  const slot = globalThis.calls?.[arguments[0]]
  return slot && !slot.isDone ? null : [slot?.value ?? null, slot?.error ?? null]`
