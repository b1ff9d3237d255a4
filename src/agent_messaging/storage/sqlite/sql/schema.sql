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

-- name: compact
vacuum
