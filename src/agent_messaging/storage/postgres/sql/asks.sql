-- What appending, settling and the end of processes do to sessions, asks and waits.
--
-- Whoever changes an ask holds the row of its delivery from before: `for update of d`, in the order of seq, as everywhere.
-- So what returns a delivery to the queue, and what ends its ask, come one after the other, and whoever is second sees, in
-- a statement after the one that waited, what the first has done.
--
-- The order of locks in a transaction: agents of asks (advisory), sessions (by pair and thread), deliveries (by seq), "asks"
-- (advisory), idempotency keys. Locks of lanes are only tried.
--
-- A wait is live while its session is not ended, its time not over and its process not known to have ended.

-- name: append_open_sessions
-- In a statement of its own, so that the next one sees what the last holders of the locks committed.
select unnest(open_sessions(
  $1::text[], $2::boolean[], $3::text[]::uuid[], $4::text[]::uuid[], $5::text[]::uuid[], $6::text[], $7::text[],
  coalesce($8::timestamptz, store_now())
))::text as opened_id

-- name: append_correct_sessions
-- PostgreSQL alone: sessions are opened before it is known what is stored. One opened for what was refused goes away, or
-- becomes that of the first message of its pair and thread that is stored.
with input as materialized (
  select * from unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[]) as i (opened_id, id, session_type)
),
closed as (
  delete from sessions s using input i where s.id = i.opened_id and i.id is null
)
update sessions s set id = i.id, session_type = i.session_type from input i where s.id = i.opened_id and i.id is not null

-- name: append_find_pairs
-- One row for each conversation message, and for each thread in which that is looked at. What it may answer is locked, so
-- that it stays open until the commit: an ask that the sender's own code has taken outside any run (0), or any where an
-- answer is required. `chained` is the ask of the sender to the recipient in which the run was made, however deep, and
-- `elsewhere` a few of the asks of the recipient to the sender in other threads, with whether the sender's own code has
-- taken them, where the message may answer in another one. Each is looked up by itself
-- (`limit` keeps the planner to it), and `in` a query is hashed: joins would compare each message with each open session and
-- ask, as the planner believes that there are few until the tables were analyzed.
with moment as materialized (
  select coalesce($7::timestamptz, store_now()) as now
),
input as materialized (
  select i.*, s.id as session_id, o.seq as own_seq, o.origin as own_origin, o.within as own_within,
    o.taken_within as own_taken_within,
    r.seq as other_seq, r.origin as other_origin, r.within as other_within, r.taken_within as other_taken_within
  from unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[]::uuid[], $4::text[], $5::text[], $6::boolean[])
    with ordinality as i (sender_id, recipient_id, within_id, answers, thread, anywhere, position)
  cross join lateral (
    select s.id from sessions s
    where s.agent_a_id = least(i.sender_id, i.recipient_id) and s.agent_b_id = greatest(i.sender_id, i.recipient_id)
      and s.thread = i.thread and s.ended_at is null
    limit 1
  ) s
  left join lateral (
    select a.seq, a.origin, a.within, a.taken_within from asks a
    where a.asker_id = i.sender_id and a.responder_id = i.recipient_id and a.session_id = s.id and a.state = 'open'
    limit 1
  ) o on true
  left join lateral (
    select a.seq, a.origin, a.within, a.taken_within from asks a
    where a.asker_id = i.recipient_id and a.responder_id = i.sender_id and a.session_id = s.id and a.state = 'open'
    limit 1
  ) r on true
),
answerable as materialized (
  select i.position, a.seq
  from input i
  join asks a on a.seq = i.other_seq and a.state || '' = 'open'
  join deliveries d on d.seq = a.seq
  where i.answers = 'required' or i.answers = 'if_taken' and a.taken_within = 0
  order by a.seq + 0
  for update of d, a
)
select i.position::integer, i.session_id::text,
  i.own_seq, (select q.id::text from messages q where q.seq = i.own_seq) as own_id, i.own_origin::text, i.own_within,
  i.own_taken_within, i.other_seq, (select q.id::text from messages q where q.seq = i.other_seq) as other_id, i.other_origin::text,
  i.other_within, i.other_taken_within,
  ((i.position, i.other_seq) in (select x.position, x.seq from answerable x)) is true as answerable,
  (
    select true from asks e
    where e.asker_id = i.recipient_id and (e.responder_id <> i.sender_id or e.session_id <> i.session_id) and e.state = 'open'
    limit 1
  ) is true as waits_elsewhere,
  (select q.seq from messages q where q.id = i.within_id) as within,
  (
    select a.seq from messages q join asks a on a.seq = q.seq
    where q.id = i.within_id and a.asker_id = i.recipient_id and a.responder_id = i.sender_id
  ) as asked_by_run,
  array(
    select distinct w.process_id::text from waits w left join processes p on p.id = w.process_id
    where w.recipient_id = i.recipient_id and w.sender_id = i.sender_id and (w.thread is null or w.thread = i.thread)
      and not w.is_ended and (w.until_at is null or w.until_at > m.now) and p.ended_at is null
  ) as waiters,
  case when i.within_id is not null then (
    with recursive chain as (
      select a.seq, a.within, a.asker_id, a.responder_id from messages q join asks a on a.seq = q.seq
      where q.id = i.within_id and a.state = 'open'
      union
      select a.seq, a.within, a.asker_id, a.responder_id from chain c join asks a on a.seq = c.within and a.state || '' = 'open'
    )
    select c.seq from chain c where c.asker_id = i.sender_id and c.responder_id = i.recipient_id limit 1
  ) end as chained,
  case when i.anywhere then array(
    select s.thread from (
      select a.session_id from asks a
      where a.asker_id = i.recipient_id and a.responder_id = i.sender_id and a.state = 'open' and a.taken_within = 0
      order by a.seq + 0 limit 3
    ) a join sessions s on s.id = a.session_id
    where s.id <> i.session_id
  ) end as taken_elsewhere,
  case when i.anywhere then array(
    select s.thread from (
      select a.session_id from asks a
      where a.asker_id = i.recipient_id and a.responder_id = i.sender_id and a.state = 'open'
        and (a.taken_within = 0) is not true
      limit 3
    ) a join sessions s on s.id = a.session_id
    where s.id <> i.session_id
  ) end as open_elsewhere
from moment m cross join input i

-- name: append_lock_asks
-- PostgreSQL alone: one at a time looks for circles. Held until the commit, so that who comes next sees this one's asks.
select pg_advisory_xact_lock(hashtextextended('asks', 3))

-- name: append_find_reach
-- Each agent that is waited for by one before it; `union` ends it where it comes back. All open asks of those.
with recursive reach as (
  select i.agent_id from unnest($1::text[]::uuid[]) as i (agent_id)
  union
  select a.responder_id from reach r join asks a on a.asker_id = r.agent_id and a.state = 'open'
)
select a.seq, a.asker_id::text as asker, a.responder_id::text as responder,
  case when d.state in ('queued', 'claimed') then d.state else 'taken' end as place,
  a.within, nullif(a.taken_within, 0) as taken_within
from reach r
join asks a on a.asker_id = r.agent_id and a.state = 'open'
join deliveries d on d.seq = a.seq
limit $2::integer

-- name: append_find_staff
-- An agent's own handlers alone serve it where it has any; else those for everybody, and others that name it. A process
-- that serves it by its name and as one of all has its slots once.
select i.agent_id::text, coalesce(
  (
    select sum(o.slots) from (
      select max(s.slots) as slots
      from services s join processes p on p.id = s.process_id and p.ended_at is null
      where s.agent_id = i.agent_id::text and s.kind = 'conversation' and s.explicit
      group by s.process_id
    ) o
  ),
  (
    select sum(o.slots) from (
      select max(s.slots) as slots
      from services s join processes p on p.id = s.process_id and p.ended_at is null
      where s.agent_id in (i.agent_id::text, '') and s.kind = 'conversation' and (s.agent_id = '' or not s.explicit)
      group by s.process_id
    ) o
  ),
  0
)::integer as slots,
array(
  select d.seq from deliveries d
  where d.recipient_id = i.agent_id and d.kind = 'conversation' and d.state = 'claimed'
) as runs
from unnest($1::text[]::uuid[]) as i (agent_id)

-- name: append_insert_conversation
-- PostgreSQL alone: all that a call with conversation messages stores, in one statement.
select * from store_talks(
  coalesce($1::timestamptz, store_now()), $2::uuid[], $3::uuid[], $4::integer[], $5::boolean[],
  $6::text[], $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::bigint[], $12::integer[],
  $13::float8[], $14::timestamptz[], $15::float8[], $16::uuid, $17::float8[], $18::boolean[], $19::bigint[],
  $20::bigint[], $21::integer[], $22::bigint[], $23::boolean[], $24::boolean[], $25::text[], $26::float8, $27::text[]
)

-- name: append_plain_conversation
-- PostgreSQL alone: the same, with all that goes before it, where no rule but the usual is asked for.
select * from store_plain_talks(
  $1::text[], $2::boolean[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],
  $8::integer[], $9::uuid[], $10::uuid[], $11::text[], $12::uuid[], $13::boolean[],
  coalesce($14::timestamptz, store_now()), $15::uuid[], $16::uuid[], $17::integer[], $18::boolean[],
  $19::text[], $20::uuid[], $21::uuid[], $22::text[], $23::text[], $24::bigint[], $25::integer[],
  $26::float8[], $27::timestamptz[], $28::float8[], $29::uuid, $30::float8[], $31::boolean[], $32::bigint[],
  $33::bigint[], $34::integer[], $35::bigint[], $36::boolean[], $37::boolean[], $38::text[], $39::float8, $40::text[]
)

-- name: append_plain_talk
-- PostgreSQL alone: the same for one message.
select * from store_plain_talk(
  $1::uuid, $2::uuid, $3::text, $4::uuid, $5::text, $6::uuid, coalesce($7::timestamptz, store_now()),
  $8::uuid, $9::boolean, $10::text, $11::text, $12::bigint, $13::integer, $14::float8, $15::timestamptz, $16::float8,
  $17::uuid, $18::float8, $19::boolean, $20::float8
)

-- name: asks_fail
select * from fail_asks($1::bigint[], $2::text[], $3::boolean[], coalesce($4::timestamptz, store_now()))

-- name: asks_time_out
with late as materialized (
  select a.seq, t.now
  from (select coalesce($1::timestamptz, store_now()) as now) t, asks a join deliveries d on d.seq = a.seq
  where a.state = 'open' and a.deadline_at <= t.now
  order by a.deadline_at limit $2::integer
  for update of d skip locked
)
update asks a set state = 'timed_out', ended_at = l.now from late l where a.seq = l.seq and a.state || '' = 'open'
returning a.seq, a.origin::text

-- name: asks_find_workers
-- Who is at work on these. By keys, as close_asks.
select distinct d.owner::text from deliveries d
where d.seq = any($1::bigint[]) and d.state || '' = 'claimed' and d.owner is not null

-- name: asks_settle_deliveries
select * from end_queued($1::bigint[], coalesce($2::timestamptz, store_now()))

-- name: asks_cancel_of_processes
-- One that is not ended by it was ended, or passed on, while this waited for its delivery.
with held as materialized (
  select a.seq from asks a join deliveries d on d.seq = a.seq
  -- By the index of deadlines: that of the open ones.
  where a.state = 'open' and a.deadline_at > '-infinity' and a.origin = any($1::text[]::uuid[]) and not a.keyed
  order by a.seq + 0
  for update of d
),
ended as (
  update asks a set state = 'cancelled', ended_at = coalesce($2::timestamptz, store_now())
  from held h where a.seq = h.seq and a.state || '' = 'open'
  returning a.seq
)
select h.seq, h.seq in (select e.seq from ended e) as is_ended from held h

-- name: waits_remove_of_processes
delete from waits where process_id = any($1::text[]::uuid[])
