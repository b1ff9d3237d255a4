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

-- name: find_holder
-- The oldest snapshot or transaction of this database that is older than $1 seconds, where at least $2 dead rows of deliveries
-- stay. A role that may not see what others do finds nothing.
select h.who, h.remedy, h.age, d.dead
from (select s.n_dead_tup as dead from pg_stat_user_tables s where s.relid = 'deliveries'::regclass) d
cross join lateral (
  select format('the session %s of %L (role %L)', a.pid, a.application_name, a.usename) as who,
    format('select pg_terminate_backend(%s)', a.pid) as remedy,
    extract(epoch from server_clock() - a.xact_start)::float8 as age,
    greatest(age(a.backend_xmin), age(a.backend_xid)) as behind
  from pg_stat_activity a
  where (a.backend_xmin is not null or a.backend_xid is not null) and a.datname = current_database()
    and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
  union all
  select format('the prepared transaction %L', p.gid), format('rollback prepared %L', p.gid),
    extract(epoch from server_clock() - p.prepared)::float8, age(p.transaction)
  from pg_prepared_xacts p where p.database = current_database()
  -- A snapshot reaches as far back as the oldest transaction that writes: beside one, all look alike.
  order by behind desc, age desc nulls last limit 1
) h
where h.age >= $1::float8 and d.dead >= $2::bigint

-- name: end_cut_off
-- PostgreSQL alone: ends the processes of the server that were at these connections, and tells which are still there. The system
-- reuses pids; one that began after the cut is another.
select a.pid, case when a.usename = current_user then pg_terminate_backend(a.pid) end as is_told
from unnest($1::integer[], $2::float8[]) as i (pid, age)
join pg_stat_activity a on a.pid = i.pid and a.backend_start <= clock_timestamp() - make_interval(secs => i.age)
