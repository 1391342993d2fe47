import { randomUUID } from 'node:crypto'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'

export const password = 'correct horse battery staple'

export interface TokenReply {
  access_token: string
  refresh_token: string
  token_type: string
  expires_in: number
}

export type Reply = LightMyRequestResponse

/** A person with an account and one session; each verb sends one request. */
export interface Actor {
  readonly email: string
  readonly userId: number
  readonly tokens: TokenReply
  readonly logIn: (headers?: Record<string, string>) => Promise<Reply>
  readonly refresh: (refreshToken?: string) => Promise<Reply>
  readonly logOut: (scope?: 'global' | 'local' | 'others') => Promise<Reply>
  readonly me: (accessToken?: string) => Promise<Reply>
  readonly send: (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: object) => Promise<Reply>
}

/** Registers somebody new and logs them in through the canonical contract. */
export async function signedUp(app: FastifyInstance, fields: object = {}): Promise<Actor> {
  const email = `${randomUUID()}@example.com`
  const registered = await post(app, '/api/v1/users/', { email, password, ...fields })
  if (registered.statusCode !== 201) throw new Error(registered.body)
  const logIn = (headers: Record<string, string> = {}) =>
    app.inject({
      method: 'POST',
      url: '/api/v1/token',
      headers: { ...form, ...headers },
      payload: formOf({ username: email, password }),
    })
  const tokens = (await logIn()).json<TokenReply>()
  const authorization = `Bearer ${tokens.access_token}`
  return {
    email,
    userId: registered.json<{ id: number }>().id,
    tokens,
    logIn,
    refresh: (refreshToken = tokens.refresh_token) => refreshWith(app, refreshToken),
    logOut: (scope) => post(app, '/api/v1/logout', scope ? { scope } : {}, { authorization }),
    me: (accessToken = tokens.access_token) => get(app, '/api/v1/me', { authorization: `Bearer ${accessToken}` }),
    send: (method, path, body) =>
      app.inject({ method, url: `/api/v1${path}`, headers: { authorization }, ...(body ? { payload: body } : {}) }),
  }
}

export function refreshWith(app: FastifyInstance, refreshToken: string): Promise<Reply> {
  return post(app, '/api/v1/refresh', { refresh_token: refreshToken })
}

export function post(
  app: FastifyInstance,
  url: string,
  payload: object | string,
  headers: Record<string, string> = {},
) {
  return app.inject({ method: 'POST', url, payload, headers } satisfies InjectOptions)
}

export function get(app: FastifyInstance, url: string, headers: Record<string, string> = {}) {
  return app.inject({ method: 'GET', url, headers })
}

export const form = { 'content-type': 'application/x-www-form-urlencoded' }

export function formOf(fields: Record<string, string>): string {
  return new URLSearchParams(fields).toString()
}

/** The value of one series as it is now, 0 if it is not there; `/metrics` may be a second behind. */
export async function metric(app: FastifyInstance, series: string): Promise<number> {
  const text = await app.metricsRegistry.metrics()
  const line = text.split('\n').find((text) => text.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1) ?? 0)
}
