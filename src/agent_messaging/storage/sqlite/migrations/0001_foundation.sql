-- Organizations, agents, messages, deliveries, processes.
--
-- Two kinds of instants, both integer microseconds:
--   *_at   wall clock (UTC since 1970), for people
--   *_due  the store's clock (see clock.py), for decisions; it does not jump with the wall clock

create table store_clock (
  boot_id text primary key,
  offset_us integer not null
) without rowid, strict;

create table organizations (
  id text primary key,
  external_id text not null unique,
  name text not null,
  created_at integer not null,
  updated_at integer not null
) without rowid, strict;

create table agents (
  id text primary key,
  external_id text not null unique,
  organization_id text not null references organizations (id) on delete cascade,
  name text not null,
  created_at integer not null,
  updated_at integer not null
) without rowid, strict;

create index agents_of_organization on agents (organization_id, external_id);

-- seq is the order of commits (one writer at a time), so it is a safe cursor here. It is never reused.
create table messages (
  seq integer primary key autoincrement,
  id text not null unique,
  kind text not null,
  sender_id text not null references agents (id) on delete cascade,
  recipient_id text references agents (id) on delete cascade,
  session_id text,
  meeting_id text,
  message_type text not null default 'user_defined',
  content text not null,
  metadata text,
  checksum integer not null,
  created_at integer not null
) strict;

create index messages_sent on messages (sender_id, kind, seq);
create index messages_received on messages (recipient_id, kind, seq);

-- The duty to handle a message, one row for each message with a recipient; narrow, because it changes often.
create table deliveries (
  seq integer primary key references messages (seq) on delete cascade,
  recipient_id text not null,
  kind text not null,
  sender_id text not null,
  thread text not null default '',          -- of a conversation message; '' is the main one
  lane text generated always as (sender_id || thread) virtual,
  state text not null check (state in ('queued', 'claimed', 'done', 'dead', 'expired', 'withdrawn')),
  token integer not null default 0,
  attempt integer not null default 0,
  max_attempts integer not null,
  suspect integer not null default 0,
  origin text,
  owner text,
  run_due integer not null default 0,       -- 0: due; otherwise when it becomes due
  run_at integer,                           -- the same for people, as the caller gave it
  expires_due integer,
  expires_at integer,
  claim_until_due integer,                  -- the hard end of the claim
  queued_due integer not null,              -- since when it has been waiting, for statistics
  claimed_at integer,
  settled_at integer,
  read_at integer,
  log text                                  -- JSON array of what went wrong so far; null is []
) strict;

-- A delivery is in at most one of these three. The third covers all that is asked of open claims.
create index deliveries_ready on deliveries (recipient_id, kind, lane, seq) where state = 'queued' and run_due = 0;
create index deliveries_scheduled on deliveries (run_due) where state = 'queued' and run_due > 0;
create index deliveries_claimed on deliveries (recipient_id, kind, lane, suspect, claim_until_due)
  where state = 'claimed';

create index deliveries_suspect on deliveries (recipient_id, kind, lane, seq)
  where state = 'queued' and run_due = 0 and suspect = 1;
create index deliveries_scheduled_for on deliveries (recipient_id) where state = 'queued' and run_due > 0;
create index deliveries_expiring on deliveries (expires_due) where state = 'queued' and expires_due is not null;
create index deliveries_dead on deliveries (recipient_id, seq) where state = 'dead';
create index deliveries_unread on deliveries (recipient_id, kind, seq) where read_at is null;

create table idempotency_keys (
  sender_id text not null references agents (id) on delete cascade,
  call text not null,
  key text not null,
  fingerprint text not null,
  message_ids text not null,                -- JSON array
  created_at integer not null,
  primary key (sender_id, call, key)
) without rowid, strict;

create table processes (
  id text primary key,
  host text not null,
  pid integer not null,
  boot_id text not null,
  lock_name text not null,                  -- the file whose lock shows its life
  doorbell_port integer not null,           -- loopback UDP; 0 is none
  started_at integer not null,
  ended_at integer,
  ended_due integer,
  end_reason text check (end_reason in ('stopped', 'died'))
) without rowid, strict;

create table services (
  process_id text not null references processes (id) on delete cascade,
  agent_id text not null,                   -- '' is every agent
  kind text not null,
  explicit integer not null,
  primary key (process_id, agent_id, kind)
) without rowid, strict;

create index processes_living on processes (lock_name) where ended_at is null;
create index processes_ended on processes (ended_due) where ended_at is not null;
