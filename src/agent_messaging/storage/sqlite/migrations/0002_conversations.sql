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

-- Of an ask, a message whose sender waits: the seconds its asker waits, so that its run may take as long.
alter table deliveries add column ask_timeout real;

-- As of its message: a session is read by its deliveries.
alter table deliveries add column session_id text;

-- An ask is part of its delivery: a row of its own would be a page in each of its two commits.
alter table deliveries add column ask_state text check (ask_state = 'open' or ask_state = 'replied'
  or ask_state = 'timed_out' or ask_state = 'ended' or ask_state = 'failed' or ask_state = 'cancelled');
alter table deliveries add column ask_within integer;       -- the message in whose run it was made
-- The message in whose run the own code of who was asked took it (read it, or got it as an answer); 0: outside any run; null: it
-- did not take it.
alter table deliveries add column ask_taken_within integer;
alter table deliveries add column ask_keyed integer;        -- made under an idempotency key: a repeat may join it
alter table deliveries add column ask_origin text;          -- the process that asks; a message that is passed on has another
alter table deliveries add column ask_deadline_due integer;
alter table deliveries add column ask_deadline_at integer;
alter table deliveries add column ask_answer_seq integer;
alter table deliveries add column ask_reason text;
alter table deliveries add column ask_ended_at integer;

-- Of open asks alone, which are few. Who looks for the next deadline, or for what is needed seldom, reads all of these, or the
-- messages of the session.
create unique index asks_open on deliveries (sender_id, recipient_id, session_id) where ask_state = 'open';
create index asks_taken on deliveries (sender_id, recipient_id, seq) where ask_state = 'open' and ask_taken_within = 0;
create index asks_within on deliveries (ask_within) where ask_state = 'open' and ask_within is not null;

create view asks as
select seq, session_id, sender_id as asker_id, recipient_id as responder_id, ask_state as state, ask_within as within,
  ask_taken_within as taken_within, ask_keyed as keyed, ask_origin as origin, ask_deadline_due as deadline_due,
  ask_deadline_at as deadline_at, ask_answer_seq as answer_seq, ask_reason as reason, ask_ended_at as ended_at
from deliveries where ask_state is not null;

create view session_messages as
select l.owner_id as session_id, e.seq from lists as l cross join listed as e on e.list = l.number
where l.name = 'session' and l.kind = 'conversation' and l.sender_id = '' and l.thread = ''
union all
select session_id, seq from unfiled where session_id is not null;

create trigger lists_of_session after delete on sessions begin
  delete from lists where owner_id = old.id;
end;

-- For an agent's own code, which reads by sender.
create view unread_from as
select l.owner_id as agent_id, l.sender_id, e.seq from lists as l cross join listed as e on e.list = l.number
where l.name = 'unread' and l.kind = 'conversation' and l.sender_id <> '' and l.thread = ''
union all
select recipient_id, sender_id, seq from unfiled where kind = 'conversation' and read_at is null;

-- The same in one thread, of all senders ('') and of each. It costs nothing without threads.
-- A constant is cast to the type of its column: SQLite looks into each part of a view by itself only if their types are the
-- same. Otherwise it copies all of them.
create view unread_in as
select l.owner_id as agent_id, l.thread, l.sender_id, e.seq from lists as l cross join listed as e on e.list = l.number
where l.name = 'unread' and l.kind = 'conversation' and l.thread <> ''
union all
select recipient_id, thread, cast('' as text), seq from unfiled where thread <> '' and read_at is null
union all
select recipient_id, thread, sender_id, seq from unfiled where thread <> '' and read_at is null;

-- The rule: on which lists a delivery stands. Nothing of it changes but that it is read.
create view listings as
select seq, sender_id as owner_id, 'sent' as name, kind, cast('' as text) as sender_id, cast('' as text) as thread from deliveries
union all
select seq, recipient_id, 'received', kind, cast('' as text), cast('' as text) from deliveries
union all
select seq, session_id, 'session', cast('conversation' as text), cast('' as text), cast('' as text)
from deliveries where session_id is not null
union all
select seq, recipient_id, 'unread', kind, cast('' as text), cast('' as text) from deliveries where read_at is null
union all
select seq, recipient_id, 'unread', kind, sender_id, cast('' as text)
from deliveries where read_at is null and kind = 'conversation'
union all
select seq, recipient_id, 'unread', kind, cast('' as text), thread from deliveries where read_at is null and thread <> ''
union all
select seq, recipient_id, 'unread', kind, sender_id, thread from deliveries where read_at is null and thread <> '';

-- Lists of unread messages of a sender or a thread go when they are empty: threads come and go, and senders.
create trigger listed_deleted after delete on deliveries begin
  delete from listed where seq = old.seq and list in (
    select number from lists where owner_id = old.sender_id and name = 'sent' and kind = old.kind
    union all
    select number from lists where owner_id = old.session_id and name = 'session'
    union all
    select number from lists
    where owner_id = old.recipient_id and name in ('received', 'unread') and kind = old.kind
      and sender_id in ('', old.sender_id) and thread in ('', old.thread)
  );
  delete from lists where old.kind = 'conversation' and owner_id = old.recipient_id and name = 'unread' and kind = 'conversation'
    and sender_id in ('', old.sender_id) and thread in ('', old.thread) and (sender_id <> '' or thread <> '')
    and not exists (select 1 from listed where list = number);
end;

create trigger listed_read after update of read_at on deliveries
when old.read_at is null and new.read_at is not null and new.seq <= (select filed from message_numbers) begin
  delete from listed where seq = new.seq and list in (
    select number from lists
    where owner_id = new.recipient_id and name = 'unread' and kind = new.kind
      and sender_id in ('', new.sender_id) and thread in ('', new.thread)
  );
  delete from lists where new.kind = 'conversation' and owner_id = new.recipient_id and name = 'unread' and kind = 'conversation'
    and sender_id in ('', new.sender_id) and thread in ('', new.thread) and (sender_id <> '' or thread <> '')
    and not exists (select 1 from listed where list = number);
end;

create trigger listed_returned after update of read_at on deliveries
when old.read_at is not null and new.read_at is null and new.seq <= (select filed from message_numbers) begin
  insert into lists (owner_id, name, kind, sender_id, thread)
  select owner_id, name, kind, sender_id, thread from listings where seq = new.seq
  on conflict do nothing;
  insert into listed (list, seq)
  select l.number, i.seq from listings as i
  cross join lists as l on (l.owner_id, l.name, l.kind, l.sender_id, l.thread) = (i.owner_id, i.name, i.kind, i.sender_id, i.thread)
  where i.seq = new.seq
  on conflict do nothing;
end;

-- What no handler had, and nobody has read: late answers. There the handled ones are many.
create index deliveries_left on deliveries (recipient_id, sender_id, seq)
  where kind = 'conversation' and state = 'done' and token = 0 and read_at is null;
create index deliveries_left_in on deliveries (recipient_id, sender_id, thread, seq)
  where kind = 'conversation' and thread <> '' and state = 'done' and token = 0 and read_at is null;

-- What is queued in any thread but the main one.
create index deliveries_threads on deliveries (recipient_id, sender_id, seq)
  where thread <> '' and state = 'queued' and run_due = 0;

alter table services add column slots integer not null default 1;
