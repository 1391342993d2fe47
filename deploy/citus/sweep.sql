-- What the sweep of the service does, without the locks that Citus refuses over several workers. Every hour, by the owner
-- of the tables, with SWEEP=off on all instances. The days are those of RETENTION_DAYS and AUDIT_RETENTION_DAYS.

-- What ended with the epoch of its user is marked, for its retention to begin. No session of an older epoch comes after.
update sessions s set revoked_at = u.sessions_ended_at, revoke_reason = 'epoch' from users u
where u.id = s.user_id and u.sessions_ended_at is not null and s.epoch < u.session_epoch and s.revoked_at is null;
update users set sessions_ended_at = null where sessions_ended_at < now() - interval '1 minute';

-- Deleted users, and all of theirs but the event that tells of it.
delete from sessions s using users u where u.id = s.user_id and u.deleted_at is not null;
delete from audit_events where type <> 'user.deleted' and user_id in (select id from users where deleted_at is not null);
delete from outbox where user_id in (select id from users where deleted_at is not null);
delete from users where deleted_at < now() - interval '1 minute';

-- Spent tokens, the parent of a head not before it has expired; then sessions that are idle or have ended.
delete from refresh_tokens t using sessions s
where s.id = t.session_id and t.issued_at < now() - interval '7 days'
  and (t.generation < s.generation - 1 or t.generation < s.generation and t.expires_at < now());
delete from sessions s using refresh_tokens t
where t.session_id = s.id and t.generation = s.generation
  and t.issued_at < now() - interval '7 days' and t.expires_at < now() - interval '7 days';
delete from sessions where expires_at < now() - interval '7 days' or revoked_at < now() - interval '7 days';

delete from outbox where created_at < now() - interval '7 days' and coalesce(sent_at, dead_at) < now() - interval '7 days';
delete from one_time_tokens where expires_at < now();
delete from auth_sessions where expires_at < now();
delete from mail_quotas where begun_at < now() - interval '1 hour';
delete from audit_events where created_at < now() - interval '365 days';
