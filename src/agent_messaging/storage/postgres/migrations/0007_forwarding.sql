-- The ways of asks that were passed on.

-- The agents of a hop stay when one is removed: the ask went that way. The asker takes its asks along.
create table hops (
  message_id uuid not null,                 -- the ask, which keeps its id
  number integer not null,                  -- 1 is the first
  asker_id uuid not null references agents (id) on delete cascade,
  from_id uuid not null,
  to_id uuid not null,
  kept_id uuid not null,                    -- the message as it stays with the one that passed it on
  kept_seq bigint not null,
  stored_at instant not null,               -- when that message was stored
  forwarded_at instant not null,
  primary key (message_id, number)
);

create index hops_of_asker on hops (asker_id);
create unique index hops_by_kept on hops (kept_id);
