/** The embedded Postgres cannot be used; the message is for the person at the terminal. */
export class EmbeddedPostgresError extends Error {}
