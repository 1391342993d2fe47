import { connectAlone } from '#src/db/connect-alone.ts'
import { databaseUrl } from './global-setup.ts'

/** The role that a server has for the service. */
export const serviceRole = 'latchkey_app'

/** Makes it with the rights and the time limits of docs/operations.md, in every database that its owner makes from now on. */
export async function makeServiceRole(server: string): Promise<void> {
  // The pattern of the databases to come.
  const template = connectAlone(databaseUrl(server, 'template1'))
  await template.unsafe(`
    create role ${serviceRole} login;
    alter role ${serviceRole} set statement_timeout = '1800ms';
    alter role ${serviceRole} set lock_timeout = '1500ms';
    grant usage on schema public to ${serviceRole};
    alter default privileges grant usage on schemas to ${serviceRole};
    alter default privileges grant select, insert, update, delete on tables to ${serviceRole}`)
  await template.end()
}
