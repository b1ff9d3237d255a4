-- name: create_migrations
create table if not exists schema_migrations (
  number integer primary key,
  name text not null,
  checksum text not null,
  applied_at integer not null
)

-- name: list_migrations
select json_group_array(json_array(number, checksum)) from schema_migrations

-- name: record_migration
insert into schema_migrations (number, name, checksum, applied_at) values (:number, :name, :checksum, :at)

-- name: find_statistics
-- SQLite alone: what ANALYZE leaves. PostgreSQL takes its own, anew as the tables change.
select exists (select 1 from sqlite_schema where type = 'table' and name in ('sqlite_stat1', 'sqlite_stat4'))

-- name: drop_statistics
-- SQLite alone. Other connections read the schema again; this one has to be told, or it keeps them in mind.
drop table if exists sqlite_stat1;
drop table if exists sqlite_stat4;
pragma writable_schema = reset

-- name: compact
vacuum
