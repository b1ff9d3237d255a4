-- Imports of archives: rows wait here, seen by nobody, until one transaction puts all of them in their places.

create table imports (
  archive text collate "C" primary key,     -- the hash of its contents
  staged bigint not null default 0,         -- its rows that wait
  begun_at instant not null,
  finished_at instant
);

-- Of one archive at a time.
create table import_rows (
  noun text collate "C" not null,           -- the table
  position bigint not null,
  record text not null,                     -- JSON object
  primary key (noun, position)
);
