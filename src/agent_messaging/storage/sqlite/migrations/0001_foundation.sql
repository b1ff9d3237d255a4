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

-- seq is the order of commits (one writer at a time), so it is a safe cursor here. It is never reused: whoever stores
-- messages numbers them from next_message on.
-- No foreign key leads to the agents: each would need an index of all messages by agent, which costs every message a page.
-- append looks for the agents, and remove_messages goes before the removal of one.
create table messages (
  seq integer primary key,
  id text not null unique,
  kind text not null,
  sender_id text not null,
  recipient_id text,
  session_id text,
  meeting_id text,
  message_type text not null default 'user_defined',
  content text not null,
  metadata text,
  checksum integer not null,
  created_at integer not null
) strict;

-- What was said in meetings, to nobody alone. Everything else is found by its delivery.
create index messages_said on messages (sender_id, kind, seq) where recipient_id is null;

-- What is known of the numbers of messages, in one row. SQLite's own autoincrement would write a page in each commit.
create table message_numbers (
  is_one integer primary key default 1 check (is_one = 1),
  removed integer not null default 0,       -- the greatest number of a message that was the newest when it was removed
  filed integer not null default 0          -- the deliveries up to this number are filed, and no others
) strict;

insert into message_numbers (is_one) values (1);

create trigger message_numbers_removed after delete on messages
when old.seq > coalesce((select max(seq) from messages), 0) begin
  insert into message_numbers (is_one, removed) values (1, old.seq)
  on conflict do update set removed = max(removed, excluded.removed);
end;

-- The number of the next message.
create view next_message as
select 1 + max(
  coalesce((select max(seq) from messages), 0), coalesce((select removed from message_numbers), 0)
) as seq;

-- The duty to handle a message, one row for each message with a recipient; narrow, because it changes often.
create table deliveries (
  seq integer primary key references messages (seq) on delete cascade,
  recipient_id text not null,
  kind text not null,
  sender_id text not null,
  thread text not null default '',          -- of a conversation message; '' is the main one
  lane text generated always as (sender_id || thread) virtual,
  -- Not `in (…)`: SQLite indexes such a list anew in each statement, a fifth of the time of an insert or a settlement.
  state text not null check (state = 'claimed' or state = 'done' or state = 'queued' or state = 'dead' or state = 'expired'
    or state = 'withdrawn'),
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
  queued_due integer not null,              -- since when it has been due, for statistics
  claimed_at integer,
  settled_at integer,
  read_at integer,
  is_unread integer generated always as (read_at is null) virtual,
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

-- Mailboxes: the lists of what an agent sent, received, and has not read. They are spread over the agents, so a message that
-- entered them at its birth would cost each commit a page for each agent. A later commit files many at once (see filing.py).
-- A list has a number, because it stands in each of its entries.
create table lists (
  number integer primary key,
  owner_id text not null,                   -- an agent, or a session
  name text not null check (name in ('sent', 'received', 'unread', 'session')),
  kind text not null,                       -- of the messages in it
  sender_id text not null default '',       -- '' is all
  thread text not null default '',          -- '' is all
  unique (owner_id, name, kind, sender_id, thread)
) strict;

create table listed (
  list integer not null,
  seq integer not null,
  primary key (list, seq)
) without rowid, strict;

create trigger lists_removed after delete on lists begin
  delete from listed where list = old.number;
end;

create trigger lists_forget after delete on agents begin
  delete from lists where owner_id = old.id;
end;

-- What is still to enter the lists: among the newest, which are looked through. An index of them would be a page more in each
-- commit.
create view unfiled as
select * from deliveries not indexed where seq > coalesce((select filed from message_numbers), 0);

create view sent as
select l.owner_id as agent_id, l.kind, e.seq, (select is_unread from deliveries where seq = e.seq) as is_unread
from lists as l cross join listed as e on e.list = l.number
where l.name = 'sent' and l.sender_id = '' and l.thread = ''
union all
select sender_id, kind, seq, is_unread from unfiled
union all
select sender_id, kind, seq, cast(null as integer) from messages indexed by messages_said where recipient_id is null;

create view received as
select l.owner_id as agent_id, l.kind, e.seq from lists as l cross join listed as e on e.list = l.number
where l.name = 'received' and l.sender_id = '' and l.thread = ''
union all
select recipient_id, kind, seq from unfiled;

create view unread as
select l.owner_id as agent_id, l.kind, e.seq from lists as l cross join listed as e on e.list = l.number
where l.name = 'unread' and l.sender_id = '' and l.thread = ''
union all
select recipient_id, kind, seq from unfiled where is_unread = 1;

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
