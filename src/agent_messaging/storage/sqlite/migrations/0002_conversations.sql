-- Sessions, asks, waits and notices.

create table sessions (
  id text primary key,
  agent_a_id text not null references agents (id) on delete cascade,   -- the smaller id of the two
  agent_b_id text not null references agents (id) on delete cascade,
  thread text not null default '',          -- '' is the main one
  session_type text not null check (session_type in ('sync', 'async')),
  created_at integer not null,
  ended_at integer,
  ended_by text,
  check (agent_a_id < agent_b_id)
) without rowid, strict;

create unique index sessions_open on sessions (agent_a_id, agent_b_id, thread) where ended_at is null;
create index sessions_of_a on sessions (agent_a_id, id);
create index sessions_of_b on sessions (agent_b_id, id);

-- A message whose sender waits. Each is removed with its message, as the sessions are with their agents. Every index costs
-- every ask a page in each of its commits, so what is asked seldom goes through those of open asks, which are few, or through
-- the session's messages; so does who looks for the next deadline.
create table asks (
  seq integer primary key references messages (seq) on delete cascade,
  session_id text not null,
  asker_id text not null,
  responder_id text not null,
  state text not null default 'open' check (state = 'open' or state = 'replied' or state = 'timed_out' or state = 'ended'
    or state = 'failed' or state = 'cancelled'),
  within integer,                           -- the message in whose run it was made
  taken_within integer,                     -- where the own code of who was asked took it, by reading or as an answer: the
                                            -- message of the run it was in, 0 outside any; null if it did not
  keyed integer not null,                   -- made under an idempotency key: a repeat may join it
  origin text,
  deadline_due integer not null,
  deadline_at integer not null,
  answer_seq integer,
  reason text,
  ended_at integer
) strict;

create unique index asks_open on asks (asker_id, responder_id, session_id) where state = 'open';
create index asks_taken on asks (asker_id, responder_id, seq) where state = 'open' and taken_within = 0;
create index asks_within on asks (within) where state = 'open' and within is not null;

-- An agent's own code waits for a message: handlers take nothing from the lane meanwhile.
create table waits (
  id text primary key,
  recipient_id text not null references agents (id) on delete cascade,
  sender_id text not null references agents (id) on delete cascade,
  thread text,                              -- null: of any thread
  process_id text not null,
  until_due integer,                        -- null: as long as its process lives
  is_ended integer not null default 0
) without rowid, strict;

create index waits_of_lane on waits (recipient_id, sender_id);
create index waits_of_process on waits (process_id);

-- What notification handlers are still to be told.
create table notices (
  seq integer primary key references messages (seq) on delete cascade,
  recipient_id text not null,
  created_due integer not null
) strict;

create index notices_of_recipient on notices (recipient_id, seq);
create index notices_due on notices (created_due);

-- Of an ask: the seconds its asker waits, so that its run may take as long.
alter table deliveries add column ask_timeout real;

-- As of its message: a session is read by its deliveries.
alter table deliveries add column session_id text;

create index deliveries_of_session on deliveries (session_id, seq) where filed = 1 and session_id is not null;

create view session_messages as
select session_id, seq from deliveries indexed by deliveries_of_session where filed = 1 and session_id is not null
union all
select session_id, seq from unfiled where session_id is not null;

-- For an agent's own code, which reads by sender.
create index deliveries_unread_from on deliveries (recipient_id, sender_id, seq)
  where filed = 1 and kind = 'conversation' and read_at is null;

create view unread_from as
select recipient_id as agent_id, sender_id, seq from deliveries indexed by deliveries_unread_from
where filed = 1 and kind = 'conversation' and read_at is null
union all
select recipient_id, sender_id, seq from unfiled
where kind = 'conversation' and read_at is null;

-- The same in one thread. It costs nothing without threads.
create index deliveries_unread_in on deliveries (recipient_id, thread, sender_id, seq)
  where filed = 1 and thread <> '' and read_at is null;

create view unread_in as
select recipient_id as agent_id, thread, sender_id, seq from deliveries indexed by deliveries_unread_in
where filed = 1 and thread <> '' and read_at is null
union all
select recipient_id, thread, sender_id, seq from unfiled
where thread <> '' and read_at is null;

-- What no handler had, and nobody has read: late answers. There the handled ones are many.
create index deliveries_left on deliveries (recipient_id, sender_id, seq)
  where kind = 'conversation' and state = 'done' and token = 0 and read_at is null;
create index deliveries_left_in on deliveries (recipient_id, sender_id, thread, seq)
  where kind = 'conversation' and thread <> '' and state = 'done' and token = 0 and read_at is null;

-- What is queued in any thread but the main one.
create index deliveries_threads on deliveries (recipient_id, sender_id, seq)
  where thread <> '' and state = 'queued' and run_due = 0;

alter table services add column slots integer not null default 1;
