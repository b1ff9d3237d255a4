-- name: create_migrations
create table schema_migrations (
  number integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null
)

-- name: list_migrations
select number, checksum from schema_migrations order by number

-- name: record_migration
insert into schema_migrations (number, name, checksum, applied_at) values ($1, $2, $3, clock_timestamp())

-- name: lock_migrations
-- One starter migrates, the others wait and then find nothing to do. Freed by the end of the transaction.
select pg_advisory_xact_lock(hashtextextended('agent_messaging migrations ' || current_schema(), 0))

-- name: list_columns
-- Which of the tables that we would create, or of our record of migrations, are there, in the schema we would use.
select c.relname as "table", array_agg(a.attname::text) as columns
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = (select oid from pg_namespace where nspname = current_schema()) and c.relname = any($1::text[])
group by c.relname

-- name: find_server
select
  current_setting('server_version') as version,
  current_setting('server_version_num')::integer as number,
  current_setting('fsync') as fsync,
  current_setting('full_page_writes') as full_page_writes,
  current_setting('synchronous_commit') as synchronous_commit,
  current_setting('server_encoding') as encoding,
  pg_is_in_recovery() as standby,
  current_schema() as schema,
  current_user::text as role

-- name: find_backend
select pg_backend_pid()

-- name: use_settings
-- Behind a pooler, which drops what a connection is started with: for the session, or ($3) for the transaction.
select set_config(s.name, s.value, $3::boolean) from unnest($1::text[], $2::text[]) as s (name, value)

-- name: use_connection_check
-- Fails where the operating system cannot tell that a client is gone.
select set_config('client_connection_check_interval', $1, false)
