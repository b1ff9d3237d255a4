-- Imports of archives: rows wait here, seen by nobody, until one transaction puts all of them in their places.

create table imports (
  archive text primary key,                 -- the hash of its contents
  staged integer not null default 0,        -- its rows that wait
  begun_at integer not null,
  finished_at integer
) without rowid, strict;

-- Of one archive at a time.
create table import_rows (
  noun text not null,                       -- the table
  position integer not null,
  record text not null,                     -- JSON object
  primary key (noun, position)
) without rowid, strict;
