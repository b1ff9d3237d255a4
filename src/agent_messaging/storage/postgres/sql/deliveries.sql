-- These habits keep the planner from plans that read whole tables when its statistics are old (docs/decisions/0079):
--   order by seq + 0           the order of our own indices, which the primary key cannot offer
--   state || '' = 'queued',    where the row is found by its key: no index of a state, or of what is unread, fits
--   (read_at is null) is true
--   (select true …) is null    instead of `not exists`, which may be turned into a hash of all rows
--   = any, or limit 1          instead of a join with names, which may be turned into a look at all rows for each name

-- name: append_find_stored
select m.id::text as message_id, d.seq, d.token, d.attempt, d.state = 'claimed' and d.owner = $2::text::uuid as held,
  case m.kind when 'conversation' then m.session_id::text end as session_id, q.id::text as answered_id,
  a.origin::text as answered_origin, array(
    select distinct w.process_id::text from live_waits w
    where m.kind = 'conversation' and a.seq is null and w.recipient_id = m.recipient_id and w.sender_id = m.sender_id
      and (w.thread is null or w.thread = d.thread) and (w.until_at is null or w.until_at > t.now)
  ) as waiters,
  m.kind = 'conversation' and a.seq is null and exists (
    select from asks o
    where o.asker_id = m.recipient_id and o.responder_id = m.sender_id and o.session_id = m.session_id and o.state = 'open'
  ) as is_asked
from (select coalesce($3::timestamptz, store_now()) as now) t
cross join messages m
left join deliveries d on d.seq = m.seq
left join asks a on a.answer_seq = m.seq and a.answer_seq is not null
left join messages q on q.seq = a.seq
where m.id = any($1::text[]::uuid[])

-- name: append_find_keys
select k.sender_id::text, k.call, k.key, k.fingerprint, k.message_ids::text[] as message_ids
from unnest($1::text[]::uuid[], $2::text[], $3::text[]) as i (sender_id, call, key)
join idempotency_keys k on k.sender_id = i.sender_id and k.call = i.call and k.key = i.key

-- name: append_find_agents
select id::text from agents where id = any($1::text[]::uuid[])

-- name: append_count_open
-- And the processes that may add to them. Never counts further than the limit: a mailbox that is full is full.
select i.recipient_id::text, (
  select count(*) from (
    (select 1 from deliveries d where d.recipient_id = i.recipient_id and d.state = 'queued' and d.run_at is null
     limit i.most)
    union all
    (select 1 from deliveries d where d.recipient_id = i.recipient_id and d.state = 'queued' and d.run_at is not null
     limit i.most)
    union all
    (select 1 from deliveries d where d.recipient_id = i.recipient_id and d.state = 'claimed' limit i.most)
  ) o
) as open, (select count(*) from processes where ended_at is null) as processes
from unnest($1::text[]::uuid[], $2::bigint[]) as i (recipient_id, most)

-- name: append_insert_keys
-- In one order in every process, so that two never wait for each other. A key that another transaction is about to store
-- is waited for, and is then missing from the answer.
insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
select i.sender_id, i.call, i.key, i.fingerprint, i.message_ids::uuid[], coalesce($6::timestamptz, store_now())
from unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
  as i (sender_id, call, key, fingerprint, message_ids)
order by i.sender_id, i.call, i.key
on conflict do nothing
returning 1

-- name: append_insert_messages
-- Messages and deliveries in one statement, a whole transaction where nothing else is needed. seq is drawn before either is
-- written, in the order of the arrays. $6 and on have one element per group, $2 to $5 one per delivery.
with moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
groups as materialized (
  select $6::text[] as kind, $7::uuid[] as sender_id, $8::uuid[] as session_id, $9::text[] as content,
    $10::text[] as metadata, $11::bigint[] as checksum, $12::integer[] as max_attempts, $13::float8[] as run_limit,
    $14::timestamptz[] as deliver_at, $15::float8[] as expires_in, $16::uuid as owner,
    $17::text[] as topic
),
input as materialized (
  select
    nextval('messages_seq_seq') as seq, i.id, i.recipient_id, i.wanted, i.position,
    g.kind[i.g] as kind, g.sender_id[i.g] as sender_id, g.session_id[i.g] as session_id, g.content[i.g] as content,
    g.topic[i.g] as topic, g.metadata[i.g] as metadata, g.checksum[i.g] as checksum, g.max_attempts[i.g] as max_attempts,
    g.run_limit[i.g] as run_limit, nullif(greatest(g.deliver_at[i.g], m.now), m.now) as run_at,
    m.now + make_interval(secs => g.expires_in[i.g]) as expires_at, m.now, g.owner
  from unnest($2::uuid[], $3::uuid[], $4::integer[], $5::boolean[])
    with ordinality as i (id, recipient_id, g, wanted, position), groups g, moment m
),
kept as materialized (
  select keep_agents(array_agg(i.sender_id) || array_agg(i.recipient_id)) as is_kept from input i where i.kind = 'one_way'
),
free as materialized (
  -- Behind the locks: what free_lanes reads was committed before it began.
  -- Of each lane the first of the call.
  select w.firsts[f.place] as position from (
    select array_agg(l.recipient_id) as recipient_ids, array_agg(l.kind) as kinds, array_agg(l.sender_id) as sender_ids,
      array_agg(''::text) as threads, array_agg(l.first) as firsts
    from (
      select recipient_id, kind, sender_id, min(position) as first from input
      where run_at is null
      group by recipient_id, kind, sender_id
      having min(position) = min(position) filter (where wanted)
    ) l
  ) w, moment m, groups g, free_lanes(w.recipient_ids, w.kinds, w.sender_ids, w.threads, g.owner, m.now) f
  where w.kinds is not null
),
decided as materialized (
  select i.*, i.position in (select f.position from free f) as taken from input i
),
new_messages as (
  insert into messages (
    seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, topic, created_at
  )
  select seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, topic, now
  from decided, kept where is_kept order by position
),
new_deliveries as (
  insert into deliveries (
    seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, origin, owner, run_at, expires_at,
    claim_until, queued_at, claimed_at
  )
  select seq, recipient_id, kind, sender_id, case when taken then 'claimed' else 'queued' end, taken::integer,
    taken::integer, max_attempts, owner, case when taken then owner end, run_at, expires_at,
    case when taken then now + make_interval(secs => run_limit) end, coalesce(run_at, now),
    case when taken then now end
  from decided order by position
)
select id::text as message_id, seq from decided where taken

-- name: claim
select * from claim(
  $1::uuid[], $2::text[], $3::integer[], $4::uuid[], $5::uuid[], $6::text[], $7::boolean[],
  $8::float8[], $9::integer, $10::float8, $11::bigint, $12::uuid, coalesce($13::timestamptz, store_now())
)

-- name: settle
-- With the answers of the runs, and new claims.
select * from exchange(
  $1::bigint[], $2::integer[], $3::text[], $4::float8[], $5::text[], $6::text[],
  $7::uuid[], $8::text[], $9::bigint[],
  $10::uuid[], $11::text[], $12::integer[], $13::uuid[], $14::uuid[], $15::text[], $16::boolean[],
  $17::float8[], $18::integer, $19::float8, $20::bigint, $21::uuid, coalesce($22::timestamptz, store_now())
)

-- name: settle_one
-- PostgreSQL alone: the same for one that is done, where nothing is claimed.
select * from finish(
  $1::bigint, $2::integer, $3::uuid, $4::text, $5::bigint, $6::uuid, coalesce($7::timestamptz, store_now())
)

-- name: list_claims
select seq, token, attempt from deliveries where state = 'claimed' and owner = $1::text::uuid order by seq + 0

-- name: find_waiting
select w.recipient_id::text, w.kind from find_waiting(coalesce($1::timestamptz, store_now())) w

-- name: lower_floors
-- PostgreSQL alone: behind what makes deliveries due again that were not open.
select lower_floors($1::bigint[])

-- name: raise_floors
-- PostgreSQL alone.
select bound, before, is_held from raise_floors($1::bigint[], $2::bigint, $3::integer, $4::bigint, $5::text[])

-- name: advance_next
select extract(epoch from t.next_at - t.now)::float8 as next_in from (
  select coalesce($1::timestamptz, store_now()) as now, least(
    (select min(run_at) from deliveries where state = 'queued' and run_at is not null),
    (select min(expires_at) from deliveries where state = 'queued' and expires_at is not null),
    (select min(claim_until) from deliveries where state = 'claimed'),
    (select min(deadline_at) from asks where state = 'open')
  ) as next_at
) t

-- name: advance_release
with moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
late as materialized (
  select d.seq, m.now from deliveries d, moment m
  where d.state = 'claimed' and d.claim_until <= m.now
  order by d.seq + 0 limit $2::integer
  for update of d skip locked
)
update deliveries d set
  state = case when d.attempt >= d.max_attempts then 'dead' else 'queued' end,
  claim_until = null, run_at = null, queued_at = l.now,
  settled_at = case when d.attempt >= d.max_attempts then l.now end,
  log = logged(d, l.now, 'lost', 'claim ended')
from late l where d.seq = l.seq
returning d.seq, d.kind, d.state

-- name: advance_expire
with moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
late as materialized (
  select d.seq, m.now from deliveries d, moment m
  where d.state = 'queued' and d.expires_at is not null and d.expires_at <= (select now from moment)
  order by d.expires_at, d.seq limit $2::integer
  for update of d skip locked
),
moved as (
  update deliveries d set state = 'expired', settled_at = l.now from late l where d.seq = l.seq
  returning d.origin, d.seq, d.expires_at
)
select o.origin::text, (select m.id::text from messages m where m.seq = o.seq) as message_id
from moved o order by o.expires_at, o.seq

-- name: advance_due
with late as materialized (
  select d.seq from deliveries d
  where d.state = 'queued' and d.run_at is not null
    and d.run_at <= (select coalesce($1::timestamptz, store_now()))
  order by d.run_at limit $2::integer
  for update of d skip locked
)
update deliveries d set queued_at = d.run_at, run_at = null from late l where d.seq = l.seq
returning d.seq

-- name: withdraw
with chosen as materialized (
  select d.seq, m.id from messages m join deliveries d on d.seq = m.seq
  where m.id = any($1::text[]::uuid[]) and d.state = 'queued'
  order by d.seq + 0
  for update of d
),
cancelled as (
  update asks a set state = 'cancelled', ended_at = store_now() from chosen c where a.seq = c.seq and a.state || '' = 'open'
)
update deliveries d set state = 'withdrawn', settled_at = store_now() from chosen c where d.seq = c.seq
returning c.id::text as message_id

-- name: list_receipts
select m.id::text as message_id, d.sender_id::text, d.recipient_id::text, d.kind, d.state, d.attempt, d.max_attempts,
  d.token, m.created_at, d.run_at as deliver_at, d.expires_at, d.claimed_at, d.settled_at, d.read_at, d.owner::text, d.log
from messages m join deliveries d on d.seq = m.seq
where m.id = any($1::text[]::uuid[])

-- name: list_dead
select m.id::text as message_id, d.sender_id::text, d.recipient_id::text, d.kind, m.content, m.metadata, m.checksum,
  d.attempt, m.created_at, d.settled_at as died_at, d.log, m.topic
from (
  select * from deliveries
  where state = 'dead' order by seq + 0 desc limit $1 offset $2
) d
join messages m on m.seq = d.seq
order by d.seq + 0 desc

-- name: list_dead_of
select m.id::text as message_id, d.sender_id::text, d.recipient_id::text, d.kind, m.content, m.metadata, m.checksum,
  d.attempt, m.created_at, d.settled_at as died_at, d.log, m.topic
from (
  select * from deliveries
  where state = 'dead' and recipient_id = $1::text::uuid
  order by seq + 0 desc limit $2 offset $3
) d
join messages m on m.seq = d.seq
order by d.seq + 0 desc

-- name: redrive
with chosen as materialized (
  select d.seq, m.id, t.now from deliveries d join messages m on m.seq = d.seq, (select store_now() as now) t
  where d.state = 'dead' and ($1::text[] is null or m.id = any($1::text[]::uuid[]))
    and ($2::text is null or d.recipient_id = $2::text::uuid)
  order by d.seq + 0
  for update of d
)
update deliveries d set
  state = 'queued', attempt = 0, suspect = false, run_at = null, expires_at = null, queued_at = c.now, settled_at = null,
  log = logged(d, c.now, 'redriven', null)
from chosen c where d.seq = c.seq
returning c.id::text as message_id, d.recipient_id::text, d.seq

-- name: statistics_counts
select state, count(*) as count from deliveries group by state

-- name: statistics_queued
-- A turn waits for its agent, which need not have a handler: its delivery tells nothing of a mailbox that nobody serves.
select extract(epoch from t.now - d.queued_at)::float8 as age, d.recipient_id::text
from deliveries d, (select coalesce($1::timestamptz, store_now()) as now) t
where d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > t.now) and d.kind <> 'turn'
order by d.queued_at limit 1

-- name: statistics_claimed
select extract(epoch from t.now - min(d.claimed_at))::float8 as age
from deliveries d, (select coalesce($1::timestamptz, store_now()) as now) t
where d.state = 'claimed'
group by t.now
