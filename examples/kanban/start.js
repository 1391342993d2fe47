// Starts the service, the API and the app; all end together.
import { spawn } from 'node:child_process'

const { PORT = '8000', API_PORT = '8100', APP_PORT = '5173', VERIFY = 'jwks' } = process.env
const ports = { SERVICE_URL: `http://localhost:${PORT}`, API_URL: `http://127.0.0.1:${API_PORT}` }

const here = new URL('./', import.meta.url)
const root = new URL('../../', import.meta.url)
const start = (command, args, cwd, env) =>
  spawn(command, args, { cwd, stdio: 'inherit', env: { ...process.env, ...ports, ...env } })

const children = [
  // Keys that others can verify with: the default, HS256, has none that may be published.
  start('npm', ['start'], root, { PORT, ALGORITHM: process.env.ALGORITHM ?? 'ES256' }),
  start(process.execPath, ['api/server.ts'], here, { API_PORT, VERIFY }),
  start(process.execPath, ['node_modules/vite/bin/vite.js', '--strictPort', '--port', APP_PORT], here),
]
const stop = () => children.forEach((child) => child.kill('SIGINT'))
for (const child of children) child.once('exit', stop)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop)
