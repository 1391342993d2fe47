import { StartError } from '#src/start-error.ts'

/** The embedded Postgres cannot be used. */
export class EmbeddedPostgresError extends StartError {}
