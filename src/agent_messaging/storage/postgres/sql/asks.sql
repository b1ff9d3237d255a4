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
-- Locks, in a statement of its own, so that the next one sees what their last holders committed. Inputs come sorted.
-- Agents: of each ask the asker exclusively, the responder shared. So two asks that could be neighbours in a circle (the
-- responder of one is the asker of the other) come one after the other, while many may ask one agent at the same time.
-- The agent '' is all: shared, or of a call that would lock too many exclusively and alone.
-- Sessions: opened where the pair has none in the thread, and locked whoever opened it: `do update … where false` locks the row also
-- where it was committed after this statement began, and writes no new version. Held until the commit, before any seq is
-- drawn: within a session the order of seq is the order of commits.
with agents as materialized (
  select case when i.asks
    then pg_advisory_xact_lock(hashtextextended(i.agent_id, 2))
    else pg_advisory_xact_lock_shared(hashtextextended(i.agent_id, 2))
  end
  from unnest($1::text[], $2::boolean[]) as i (agent_id, asks)
),
opened as (
  insert into sessions (id, agent_a_id, agent_b_id, thread, session_type, created_at)
  select i.id, i.agent_a_id, i.agent_b_id, i.thread, i.session_type,
    coalesce($8::timestamptz, store_now())
  from unnest($3::text[]::uuid[], $4::text[]::uuid[], $5::text[]::uuid[], $6::text[], $7::text[])
    as i (id, agent_a_id, agent_b_id, thread, session_type), (select count(*) from agents) locked
  order by i.agent_a_id, i.agent_b_id, i.thread collate "C"
  on conflict (agent_a_id, agent_b_id, thread) where ended_at is null
    do update set session_type = excluded.session_type where false
  returning id
)
select o.id::text as opened_id from opened o

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
  join asks a on a.seq = i.other_seq and a.state = 'open'
  join deliveries d on d.seq = a.seq
  where i.answers = 'required' or i.answers = 'if_taken' and a.taken_within = 0
  order by a.seq
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
      select a.seq, a.within, a.asker_id, a.responder_id from chain c join asks a on a.seq = c.within and a.state = 'open'
    )
    select c.seq from chain c where c.asker_id = i.sender_id and c.responder_id = i.recipient_id limit 1
  ) end as chained,
  case when i.anywhere then array(
    select s.thread from (
      select a.session_id from asks a
      where a.asker_id = i.recipient_id and a.responder_id = i.sender_id and a.state = 'open' and a.taken_within = 0
      order by a.seq limit 3
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
-- PostgreSQL alone: all that a call with conversation messages stores, in one statement. Messages and deliveries as in
-- append_insert_messages; beyond it, an answer ends its ask and is done from the start, an ask and a notice get their rows.
-- $17 and on have one element per group too. An ask that a later message of the same call answers ($21 is that message's
-- position) is stored as replied, and done. Arrays of positions are indexed: a join would compare each with each.
with moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
groups as materialized (
  select $6::text[] as kind, $7::text[]::uuid[] as sender_id, $8::text[]::uuid[] as session_id, $9::text[] as content,
    $10::text[] as metadata, $11::bigint[] as checksum, $12::integer[] as max_attempts, $13::float8[] as run_limit,
    $14::timestamptz[] as deliver_at, $15::float8[] as expires_in, $16::text::uuid as owner, $17::float8[] as ask_timeout,
    $18::boolean[] as is_answer, $19::bigint[] as answered, $20::bigint[] as taken_within, $21::integer[] as replied_by,
    $22::bigint[] as within, $23::boolean[] as keyed, $24::boolean[] as notify, $25::text[] as thread,
    $26::float8 as margin, $27::text[] as topic
),
input as materialized (
  select
    nextval('messages_seq_seq') as seq, i.id, i.recipient_id, i.wanted, i.position,
    g.kind[i.g] as kind, g.sender_id[i.g] as sender_id, g.session_id[i.g] as session_id, g.content[i.g] as content,
    g.topic[i.g] as topic, g.metadata[i.g] as metadata, g.checksum[i.g] as checksum, g.max_attempts[i.g] as max_attempts,
    greatest(g.run_limit[i.g], g.ask_timeout[i.g]) + g.margin as run_limit,
    nullif(greatest(g.deliver_at[i.g], m.now), m.now) as run_at,
    m.now + make_interval(secs => g.expires_in[i.g]) as expires_at, m.now, g.owner,
    g.ask_timeout[i.g] as ask_timeout, g.is_answer[i.g] as is_answer, g.answered[i.g] as answered,
    g.taken_within[i.g] as taken_within, g.replied_by[i.g] as replied_by, g.within[i.g] as within, g.keyed[i.g] as keyed,
    g.notify[i.g] as notify, g.thread[i.g] as thread, g.is_answer[i.g] or g.replied_by[i.g] is not null as is_done
  from unnest($2::text[]::uuid[], $3::text[]::uuid[], $4::integer[], $5::boolean[])
    with ordinality as i (id, recipient_id, g, wanted, position), groups g, moment m
),
seqs as materialized (
  select array_agg(i.seq order by i.position) as seq from input i
),
free as materialized (
  -- Behind the locks: what free_lanes reads was committed before it began.
  select f.* from (
    select array_agg(l.recipient_id) as recipient_ids, array_agg(l.kind) as kinds, array_agg(l.sender_id) as sender_ids,
      array_agg(l.thread) as threads, min(l.owner::text)::uuid as owner, min(l.now) as now
    from (select distinct recipient_id, kind, sender_id, thread as thread, owner, now from input where wanted and not is_done and run_at is null) l
  ) w, free_lanes(w.recipient_ids, w.kinds, w.sender_ids, w.threads, w.owner, w.now) f
  where w.kinds is not null
),
decided as materialized (
  select i.*,
    i.wanted and not i.is_done and i.run_at is null
    -- The first of the call in its lane.
    and row_number() over (
      partition by i.recipient_id, i.kind, i.sender_id, i.thread, i.is_done or i.run_at is not null order by i.position
    ) = 1
    and (i.recipient_id, i.kind, i.sender_id, i.thread) in (
      select f.recipient_id, f.kind, f.sender_id, f.thread from free f
    )
    as taken
  from input i
),
new_messages as (
  insert into messages (
    seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, topic, created_at
  )
  select seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, topic, now
  from decided order by position
),
new_deliveries as (
  insert into deliveries (
    seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, origin, owner, run_at, expires_at,
    claim_until, queued_at, claimed_at, settled_at, read_at, ask_timeout, thread
  )
  select seq, recipient_id, kind, sender_id,
    case when is_done then 'done' when taken then 'claimed' else 'queued' end, taken::integer,
    taken::integer, max_attempts, owner, case when taken then owner end, case when not is_done then run_at end, expires_at,
    case when taken then now + make_interval(secs => run_limit) end, coalesce(run_at, now),
    case when taken then now end, case when is_done then now end, case when is_done then now end, ask_timeout,
    thread
  from decided order by position
),
replied as (
  update asks a set state = 'replied', answer_seq = i.seq, ended_at = i.now
  from input i where a.seq = i.answered and a.state = 'open'
  returning a.seq
),
settled as (
  -- Whoever answered it has read it; queued it needs no handler any more.
  update deliveries d set
    state = case d.state when 'queued' then 'done' else d.state end,
    settled_at = case d.state when 'queued' then i.now else d.settled_at end,
    read_at = coalesce(d.read_at, i.now)
  from input i where d.seq = i.answered and (d.state = 'queued' or d.read_at is null)
),
new_asks as (
  insert into asks (
    seq, session_id, asker_id, responder_id, state, within, taken_within, keyed, origin, deadline_at, answer_seq, ended_at
  )
  select i.seq, i.session_id, i.sender_id, i.recipient_id, case when i.replied_by is null then 'open' else 'replied' end,
    i.within, i.taken_within, i.keyed, i.owner, i.now + make_interval(secs => i.ask_timeout), s.seq[i.replied_by],
    case when i.replied_by is not null then i.now end
  -- Behind those it may replace: the asker whose ask is answered in this call may ask anew in it.
  from input i, seqs s, (select count(*) from replied) before where i.ask_timeout is not null order by i.position
),
new_notices as (
  insert into notices (seq, recipient_id, created_at)
  select seq, recipient_id, coalesce(run_at, now) from input where notify and not is_answer order by position
)
select id::text as message_id, seq from decided where taken

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
update asks a set state = 'timed_out', ended_at = l.now from late l where a.seq = l.seq and a.state = 'open'
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
  where a.state = 'open' and a.origin = any($1::text[]::uuid[]) and not a.keyed
  order by a.seq
  for update of d
),
ended as (
  update asks a set state = 'cancelled', ended_at = coalesce($2::timestamptz, store_now())
  from held h where a.seq = h.seq and a.state = 'open'
  returning a.seq
)
select h.seq, h.seq in (select e.seq from ended e) as is_ended from held h

-- name: waits_remove_of_processes
delete from waits where process_id = any($1::text[]::uuid[])
