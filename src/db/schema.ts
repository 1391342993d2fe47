import { check } from 'drizzle-orm/pg-core/checks'
import {
  bigint,
  boolean,
  customType,
  integer,
  jsonb,
  smallint,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core/columns'
import { index, uniqueIndex } from 'drizzle-orm/pg-core/indexes'
import { primaryKey } from 'drizzle-orm/pg-core/primary-keys'
import { pgTable } from 'drizzle-orm/pg-core/table'
import { sql } from 'drizzle-orm/sql'

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })
const moment = (name: string) => timestamp(name, { withTimezone: true })

export const users = pgTable(
  'users',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    email: text('email'),
    username: text('username'),
    fullName: text('full_name'),
    passwordHash: text('password_hash'),
    roles: text('roles').array().notNull().default(['user']),
    isActive: boolean('is_active').notNull().default(true),
    /** Raised whenever all sessions end: also one that is being opened at that moment is then of the past. */
    sessionEpoch: integer('session_epoch').notNull().default(0),
    /** When the epoch was raised; null again once the sweep has marked the sessions that ended with it. */
    sessionsEndedAt: moment('sessions_ended_at'),
    /** Deleted: without names and sessions; the sweep removes what is left, then the row. */
    deletedAt: moment('deleted_at'),
    emailVerifiedAt: moment('email_verified_at'),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (t) => [
    // Collation "C": a database in a Turkish locale must not lower "I" to a dotless "ı".
    uniqueIndex('users_email_key').on(sql`lower(${t.email} collate "C")`),
    uniqueIndex('users_username_key').on(sql`lower(${t.username} collate "C")`),
    index('users_active_admins_idx')
      .on(t.id)
      .where(sql`'admin' = any(${t.roles}) and ${t.isActive}`),
    index('users_sessions_ended_at_idx')
      .on(t.sessionsEndedAt)
      .where(sql`${t.sessionsEndedAt} is not null`),
    index('users_deleted_at_idx')
      .on(t.deletedAt)
      .where(sql`${t.deletedAt} is not null`),
    check(
      'users_have_a_login_name',
      sql`${t.email} is not null or ${t.username} is not null or ${t.deletedAt} is not null`,
    ),
  ],
)

/** One login; the head of a chain of refresh tokens. */
export const sessions = pgTable(
  'sessions',
  {
    id: uuid('id').primaryKey(),
    userId: integer('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    createdAt: moment('created_at').notNull().defaultNow(),
    expiresAt: moment('expires_at').notNull(),
    epoch: integer('epoch').notNull(),
    generation: integer('generation').notNull().default(0),
    successorSalt: bytea('successor_salt'),
    /** The generation of the head at which a late retry was last granted. */
    lateGeneration: integer('late_generation'),
    /** In how many generations in a row, up to `lateGeneration`, a late retry was granted. */
    lateCount: integer('late_count').notNull().default(0),
    refreshedAt: moment('refreshed_at'),
    revokedAt: moment('revoked_at'),
    revokeReason: text('revoke_reason'),
    /** How the user was known (RFC 8176). */
    amr: text('amr').array().notNull().default(['pwd']),
    /** When the user was last known by all of `amr`; null: when the session was opened. */
    authenticatedAt: moment('authenticated_at'),
    /** The client that the session was opened for. */
    clientId: text('client_id').notNull().default('latchkey'),
    ip: text('ip'),
    userAgent: text('user_agent'),
  },
  (t) => [
    index('sessions_user_id_idx').on(t.userId),
    index('sessions_live_idx')
      .on(t.userId, t.epoch, t.createdAt)
      .where(sql`${t.revokedAt} is null`),
    index('sessions_expires_at_idx').on(t.expiresAt),
    index('sessions_revoked_at_idx')
      .on(t.revokedAt)
      .where(sql`${t.revokedAt} is not null`),
  ],
)

/** One single-use token; the row is never updated, it is spent once its session's head has moved past it. */
export const refreshTokens = pgTable(
  'refresh_tokens',
  {
    sessionId: uuid('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    generation: integer('generation').notNull(),
    digest: bytea('digest').notNull(),
    issuedAt: moment('issued_at').notNull().defaultNow(),
    expiresAt: moment('expires_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.generation] }), index('refresh_tokens_issued_at_idx').on(t.issuedAt)],
)

/** The audit trail; without a foreign key, so that it can tell of a user who is gone. */
export const auditEvents = pgTable(
  'audit_events',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    createdAt: moment('created_at').notNull().defaultNow(),
    type: text('type').notNull(),
    userId: integer('user_id'),
    actorId: integer('actor_id'),
    sessionId: uuid('session_id'),
    ip: text('ip'),
    userAgent: text('user_agent'),
    requestId: text('request_id'),
    detail: jsonb('detail').$type<Record<string, unknown>>(),
  },
  (t) => [index('audit_events_user_id_idx').on(t.userId, t.id), index('audit_events_created_at_idx').on(t.createdAt)],
)

/** Something that was begun and waits for its other half, such as a second factor or the answer of a provider. */
export const authSessions = pgTable(
  'auth_sessions',
  {
    /** SHA-256 of the secret that the client holds. */
    digest: bytea('digest').primaryKey(),
    kind: text('kind').notNull(),
    userId: integer('user_id').references(() => users.id, { onDelete: 'cascade' }),
    /** The epoch of the user's sessions when it was begun. */
    epoch: integer('epoch'),
    /** Sealed, see sealing.ts. */
    data: bytea('data').notNull(),
    triesLeft: smallint('tries_left').notNull(),
    expiresAt: moment('expires_at').notNull(),
  },
  (t) => [index('auth_sessions_user_id_idx').on(t.userId), index('auth_sessions_expires_at_idx').on(t.expiresAt)],
)

/** What a mailed link proves; a newer one of the same purpose takes the place of the older. */
export const oneTimeTokens = pgTable(
  'one_time_tokens',
  {
    userId: integer('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    purpose: text('purpose').notNull(),
    digest: bytea('digest').notNull(),
    /** The address that the link went to and that its use confirms. */
    email: text('email').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    expiresAt: moment('expires_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.userId, t.purpose] }), uniqueIndex('one_time_tokens_digest_key').on(t.digest)],
)

/** Mail that is to be sent, written in the same statement as its cause. */
export const outbox = pgTable(
  'outbox',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    userId: integer('user_id').references(() => users.id, { onDelete: 'cascade' }),
    template: text('template').notNull(),
    recipient: text('recipient').notNull(),
    data: jsonb('data').$type<Record<string, string>>().notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    attempts: integer('attempts').notNull().default(0),
    /** Counts the claims: whoever holds an older number has lost the mail to somebody else. */
    claim: integer('claim').notNull().default(0),
    /** When the next attempt may begin: also the end of the lease of the one that is under way. */
    dueAt: moment('due_at').notNull().defaultNow(),
    sentAt: moment('sent_at'),
    deadAt: moment('dead_at'),
    lastError: text('last_error'),
  },
  (t) => [
    index('outbox_due_at_idx')
      .on(t.dueAt)
      .where(sql`${t.sentAt} is null and ${t.deadAt} is null`),
    index('outbox_user_id_idx').on(t.userId),
    index('outbox_created_at_idx').on(t.createdAt),
  ],
)

/** How many mails went to an address within the hour that began with the first; by digest, so that it outlives the user. */
export const mailQuotas = pgTable(
  'mail_quotas',
  {
    /** SHA-256 of the address in lower case. */
    recipient: bytea('recipient').notNull(),
    kind: text('kind').$type<'link' | 'notice'>().notNull(),
    begunAt: moment('begun_at').notNull().defaultNow(),
    count: integer('count').notNull().default(1),
  },
  (t) => [primaryKey({ columns: [t.recipient, t.kind] }), index('mail_quotas_begun_at_idx').on(t.begunAt)],
)

/** Keys of ES256, EdDSA and RS256; the private part is encrypted under a key derived from `SECRET_KEY`. */
export const signingKeys = pgTable(
  'signing_keys',
  {
    kid: text('kid').primaryKey(),
    algorithm: text('algorithm').notNull(),
    /** SPKI, PEM. */
    publicKey: text('public_key').notNull(),
    /** PKCS #8, PEM, sealed with AES-256-GCM. */
    privateKey: bytea('private_key').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** It is published from the start and signs from this moment. */
    signsFrom: moment('signs_from').notNull(),
    /** Its tokens verify until then; null while it is the newest. */
    verifiesUntil: moment('verifies_until'),
  },
  (t) => [
    // One newest key per algorithm, whichever of several instances makes it.
    uniqueIndex('signing_keys_newest_key')
      .on(t.algorithm)
      .where(sql`${t.verifiesUntil} is null`),
  ],
)

export type User = typeof users.$inferSelect
export type Session = typeof sessions.$inferSelect
export type AuditEvent = typeof auditEvents.$inferSelect
