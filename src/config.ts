import { databaseSettings } from '#src/db/database.settings.ts'
import { passwordSettings } from '#src/features/login/passwords.settings.ts'
import { mailSettings } from '#src/features/mail/mail.settings.ts'
import { sessionSettings } from '#src/features/sessions/sessions.settings.ts'
import { sweepSettings } from '#src/features/sessions/sweep.settings.ts'
import { tokenSettings } from '#src/features/tokens/tokens.settings.ts'
import { limitSettings } from '#src/plugins/limits.settings.ts'
import { metricsSettings } from '#src/plugins/metrics.settings.ts'
import { networkSettings } from '#src/plugins/network.settings.ts'
import { traceSettings } from '#src/plugins/traces.settings.ts'
import { routeSettings } from '#src/routes/routes.settings.ts'
import { serviceSettings } from './service.settings.ts'
import { fromFiles, type Group, type Place, configOf, type Variables, valueOf } from './settings.ts'

/** The settings of every owner, in the order of the README. */
const groups = {
  service: serviceSettings,
  database: databaseSettings,
  tokens: tokenSettings,
  routes: routeSettings,
  sessions: sessionSettings,
  passwords: passwordSettings,
  mail: mailSettings,
  limits: limitSettings,
  network: networkSettings,
  metrics: metricsSettings,
  traces: traceSettings,
  sweep: sweepSettings,
}

/** Every environment variable that the service reads. */
export const settings = Object.values<Group>(groups).flatMap((group) => Object.values(group.settings))

type Groups = { readonly [K in keyof typeof groups]: (typeof groups)[K] extends Group<infer C> ? C : never }

/** What the service works with: for each owner what it declares. */
export type Config = Groups & {
  /** Settings that are allowed and yet deserve a word in the log. */
  readonly warnings: readonly string[]
}

export class ConfigError extends Error {
  constructor(faults: readonly string[]) {
    super(`The settings cannot be used:\n${faults.map((fault) => `  ${fault}`).join('\n')}`)
  }
}

/** Reads the environment into a frozen `Config`; throws one `ConfigError` that lists every fault and echoes no value. */
export function readConfig(variables: Variables): Config {
  const faults: string[] = []
  const warnings: string[] = []
  const given = fromFiles(settings, variables, faults)
  const values = new Map(settings.map((setting) => [setting.name, valueOf(setting, given, faults)]))
  const place: Place = { production: values.get('ENVIRONMENT') === 'production', variables, faults, warnings }
  const parts = Object.entries<Group>(groups).map(([name, group]) => [name, configOf(group, values, place)])
  const config = Object.fromEntries(parts) as Groups

  if (config.database.url !== undefined && config.tokens.secretKey === undefined)
    faults.push('SECRET_KEY: is required with a database of your own; for example the output of `openssl rand -hex 32`')
  if (faults.length > 0) throw new ConfigError(faults)
  return Object.freeze<Config>({ ...config, warnings })
}
