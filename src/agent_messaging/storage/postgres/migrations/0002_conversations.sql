-- Sessions, asks, waits and notices.

create table sessions (
  id uuid primary key,
  agent_a_id uuid not null references agents (id) on delete cascade,   -- the smaller id of the two
  agent_b_id uuid not null references agents (id) on delete cascade,
  thread text collate "C" not null default '',   -- '' is the main one
  session_type text not null check (session_type in ('sync', 'async')),
  created_at timestamptz not null,
  ended_at timestamptz,
  ended_by uuid,
  check (agent_a_id < agent_b_id),
  check (
    least(created_at, ended_at) >= '0001-01-01 00:00+00'
    and greatest(created_at, ended_at) < '10000-01-01 00:00+00'
  )
);

create unique index sessions_open on sessions (agent_a_id, agent_b_id, thread) where ended_at is null;
create index sessions_of_a on sessions (agent_a_id, id);
create index sessions_of_b on sessions (agent_b_id, id);
create index messages_of_session on messages (session_id, seq) where session_id is not null;

-- A message whose sender waits.
create table asks (
  seq bigint primary key references messages (seq) on delete cascade,
  session_id uuid not null references sessions (id) on delete cascade,
  asker_id uuid not null,
  responder_id uuid not null,
  state text collate "C" not null default 'open'
    check (state in ('open', 'replied', 'timed_out', 'ended', 'failed', 'cancelled')),
  within bigint,                            -- the message in whose run it was made
  taken_within bigint,                      -- where the own code of who was asked took it, by reading or as an answer: the
                                            -- message of the run it was in, 0 outside any; null if it did not
  keyed boolean not null,                   -- made under an idempotency key: a repeat may join it
  origin uuid,
  deadline_at timestamptz not null,
  answer_seq bigint,
  reason text,
  ended_at timestamptz,
  check (
    least(deadline_at, ended_at) >= '0001-01-01 00:00+00'
    and greatest(deadline_at, ended_at) < '10000-01-01 00:00+00'
  )
) with (fillfactor = 80);

create unique index asks_open on asks (asker_id, responder_id, session_id) where state = 'open';
create index asks_taken on asks (asker_id, responder_id, seq) where state = 'open' and taken_within = 0;
create index asks_deadline on asks (deadline_at) where state = 'open';
create index asks_within on asks (within) where state = 'open' and within is not null;
create index asks_of_process on asks (origin) where state = 'open';
create index asks_of_session on asks (session_id, seq);
create index asks_answered on asks (answer_seq) where answer_seq is not null;

-- An agent's own code waits for a message: handlers take nothing from the lane meanwhile.
create table waits (
  id uuid primary key,
  recipient_id uuid not null references agents (id) on delete cascade,
  sender_id uuid not null references agents (id) on delete cascade,
  thread text collate "C",                  -- null: of any thread
  process_id uuid not null,
  until_at timestamptz,                     -- null: as long as its process lives
  is_ended boolean not null default false,
  check (until_at >= '0001-01-01 00:00+00' and until_at < '10000-01-01 00:00+00')
);

create index waits_of_lane on waits (recipient_id, sender_id);
create index waits_of_process on waits (process_id);

-- What notification handlers are still to be told.
create table notices (
  seq bigint primary key references messages (seq) on delete cascade,
  recipient_id uuid not null,
  created_at timestamptz not null,
  check (created_at >= '0001-01-01 00:00+00' and created_at < '10000-01-01 00:00+00')
);

create index notices_of_recipient on notices (recipient_id, seq);
create index notices_due on notices (created_at);

-- Of an ask: the seconds its asker waits, so that its run may take as long.
alter table deliveries add column ask_timeout float8;

-- For an agent's own code, which reads by sender, and takes what no handler had: there the handled ones are many.
create index deliveries_unread_from on deliveries (recipient_id, sender_id, (seq + 0))
  where kind = 'conversation' and read_at is null;
create index deliveries_left on deliveries (recipient_id, sender_id, (seq + 0))
  where kind = 'conversation' and state = 'done' and token = 0 and read_at is null;

-- The same in one thread, and what is queued in any but the main one. They cost nothing without threads.
create index deliveries_unread_in on deliveries (recipient_id, thread, sender_id, (seq + 0))
  where thread <> '' and read_at is null;
create index deliveries_threads on deliveries (recipient_id, sender_id, (seq + 0))
  where thread <> '' and state = 'queued' and run_at is null;

alter table services add column slots integer not null default 1;
