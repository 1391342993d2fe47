import { createServer } from 'node:net'
import { once } from 'node:events'
import postgres from 'postgres'
import { describe, expect, test } from 'vitest'
import { describeError } from '#src/describe-error.ts'
import { Problem } from '#src/problem.ts'
import { onDatabase, startServer } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

const withCode = (code: string, more: object = {}) => Object.assign(new Error('words of the driver'), { code, ...more })
const fromPostgres = (code: string) =>
  Object.assign(Object.create(postgres.PostgresError.prototype) as Error, { name: 'PostgresError', code })

describe('the explanation of a start that failed', () => {
  test.each([
    [
      withCode('ECONNREFUSED', { syscall: 'connect' }),
      /^The database cannot be used \(ECONNREFUSED\)\. Is the database reachable/,
    ],
    [withCode('ENOENT', { syscall: 'connect', address: '/run/.s.PGSQL.5432' }), /Is the database reachable/],
    [withCode('CONNECT_TIMEOUT'), /Is the database reachable/],
    [fromPostgres('28P01'), /Is the database reachable, with this user and password/],
    [withCode('ENOSPC', { syscall: 'write', path: '/data/x' }), /^\/data\/x: the disk is full\.$/],
    [withCode('ENOSPC', { syscall: 'write' }), /^The disk is full\.$/],
    [withCode('EROFS', { syscall: 'open', path: '/data/x' }), /^\/data\/x: the file system is read-only\.$/],
    [withCode('EACCES', { syscall: 'open', path: '/data/x' }), /^\/data\/x: this user may not use it\.$/],
    [withCode('EACCES', { syscall: 'listen', port: 80 }), /^The port may not be used by this user; set PORT\.$/],
    [withCode('EADDRINUSE', { syscall: 'listen', port: 80 }), /^The port is in use by another program/],
    [withCode('EADDRNOTAVAIL', { syscall: 'listen' }), /^HOST is no address of this machine\.$/],
    [fromPostgres('53100'), /^The disk of the database is full\.$/],
    [fromPostgres('57014'), /^The database took too long and gave up \(57014\)\.$/],
    [fromPostgres('42501'), /lacks rights/],
    [fromPostgres('25006'), /^The database answered with the error 25006\.$/],
    [new Error('query', { cause: fromPostgres('53100') }), /^The disk of the database is full\.$/],
    [withCode('CSV_MAX_RECORD_SIZE'), /^The file cannot be read as CSV \(CSV_MAX_RECORD_SIZE\)\.$/],
    [withCode('AVV_ERR_PLUGIN_EXEC_TIMEOUT'), /^The start took longer than two minutes/],
    [withCode('UNABLE_TO_VERIFY_LEAF_SIGNATURE'), /certificate of the database is not trusted/],
    [withCode('ERR_TLS_CERT_ALTNAME_INVALID'), /certificate of the database is not trusted/],
    [new Problem('email_taken'), /^[^()]+\.$/],
  ])('of %o is a sentence that says what happened', (error, sentence) => {
    expect(describeError(error)).toMatch(sentence)
    expect(describeError(error)).not.toMatch(/words of the driver|\n/)
  })

  test('of what nobody foresaw is its stack', () => {
    expect(describeError(new TypeError('x is no function'))).toMatch(/^TypeError: x is no function\n {4}at /)
  })
})

describe('a database that is too slow for a start', () => {
  test('is named with its code', async () => {
    const { url, sql } = await cloneDatabase()
    await sql.unsafe('begin; lock table signing_keys in access exclusive mode')
    const { code, output } = await startServer({ ...onDatabase(url), LOG_LEVEL: 'silent' }).exited
    expect([code, output]).toEqual([1, expect.stringMatching(/^[^\n]* \(database: 55P03\)\n$/)])
  })
})

describe('a database that takes connections and never answers', () => {
  test('is asked about in one sentence', async () => {
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    const { code, output } = await startServer({
      ...onDatabase(`postgres://u@127.0.0.1:${port}/x`),
      LOG_LEVEL: 'silent',
    }).exited
    expect([code, output]).toEqual([1, expect.stringMatching(/^The database did not answer[^\n]*\n$/)])
    expect(output).not.toContain('AVV_')
    silent.close()
  })
})
