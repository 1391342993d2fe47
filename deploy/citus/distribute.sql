-- Spreads the sessions and their refresh tokens over the workers of Citus. Once, by the owner of the tables, on the
-- coordinator, after citus_add_node has named the workers: psql --set ON_ERROR_STOP=1 -f distribute.sql
-- Requests wait or get 503 until it has ended (docs/scaling.md).

-- Citus takes no volatile function in an UPDATE. This one it calls once, before the statement goes to a worker. The role of
-- the service has to find it first: alter role latchkey_app set search_path = public, pg_catalog
create or replace function public.clock_timestamp() returns timestamptz
  language sql stable as 'select pg_catalog.clock_timestamp()';

begin;
-- Both tables have to be spread before one can refer to the other again.
alter table refresh_tokens drop constraint refresh_tokens_session_id_sessions_id_fk;
-- On every node, so that a session finds its user beside it and an address still belongs to one.
select create_reference_table('users');
select create_distributed_table('sessions', 'id');
select create_distributed_table('refresh_tokens', 'session_id', colocate_with => 'sessions');
alter table refresh_tokens add constraint refresh_tokens_session_id_sessions_id_fk
  foreign key (session_id) references sessions (id) on delete cascade;
commit;
