-- Parts of answers on their way to askers that read them.

-- One for each ask whose asker reads parts, from the ask until its reader has gone. It goes with the ask's id, so it refers
-- to no row: an ask that is passed on is another message under that id.
create table streams (
  ask_id uuid primary key,
  reader uuid not null,                     -- the process
  seq bigint not null default 0,            -- the run whose parts are here, by its claim
  token integer not null default 0,
  written integer not null default 0        -- its parts so far
);

create table parts (
  ask_id uuid not null references streams (ask_id) on delete cascade,
  number integer not null,
  content text not null,
  checksum bigint not null,
  primary key (ask_id, number)
) with (
  -- Rows live for seconds.
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0
);
