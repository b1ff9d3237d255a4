-- Two habits keep the planner from plans that read whole tables when its statistics are old:
--   order by seq + 0        the order of our own indices, which the primary key cannot offer
--   (select true …) is null instead of `not exists`, which may be turned into a hash of all rows

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
-- Never counts further than the limit: a mailbox that is full is full.
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
) as open
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

-- name: append_lock_lanes
-- PostgreSQL alone: keeps two processes from claiming in one lane at a time. Must be a statement before the one that looks
-- into the lanes, which then sees what the last holder committed. Who does not get the lock leaves its delivery queued.
select i.position::integer
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as i (recipient_id, kind, lane, position)
where pg_try_advisory_xact_lock(hashtextextended(i.recipient_id || ' ' || i.kind || ' ' || i.lane, 0))

-- name: append_insert_messages
-- Messages and deliveries in one statement, a whole transaction where nothing else is needed. seq is drawn before either is
-- written, in the order of the arrays. $6 and on have one element per group, $2 to $5 one per delivery.
with moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
groups as materialized (
  select $6::text[] as kind, $7::text[]::uuid[] as sender_id, $8::text[]::uuid[] as session_id, $9::text[] as content,
    $10::text[] as metadata, $11::bigint[] as checksum, $12::integer[] as max_attempts, $13::float8[] as run_limit,
    $14::timestamptz[] as deliver_at, $15::float8[] as expires_in, $16::text::uuid as owner,
    $17::text[] as topic
),
input as materialized (
  select
    nextval('messages_seq_seq') as seq, i.id, i.recipient_id, i.wanted, i.position,
    g.kind[i.g] as kind, g.sender_id[i.g] as sender_id, g.session_id[i.g] as session_id, g.content[i.g] as content,
    g.topic[i.g] as topic, g.metadata[i.g] as metadata, g.checksum[i.g] as checksum, g.max_attempts[i.g] as max_attempts,
    g.run_limit[i.g] as run_limit, nullif(greatest(g.deliver_at[i.g], m.now), m.now) as run_at,
    m.now + make_interval(secs => g.expires_in[i.g]) as expires_at, m.now, g.owner
  from unnest($2::text[]::uuid[], $3::text[]::uuid[], $4::integer[], $5::boolean[])
    with ordinality as i (id, recipient_id, g, wanted, position), groups g, moment m
),
decided as materialized (
  select i.*,
    i.wanted and i.run_at is null
    -- The first of the call in its lane.
    and row_number() over (
      partition by i.recipient_id, i.kind, i.sender_id, i.run_at is null order by i.position
    ) = 1
    and (
      select true from deliveries d
      where d.recipient_id = i.recipient_id and d.kind = i.kind and d.sender_id = i.sender_id
        and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > i.now)
      limit 1
    ) is null
    and (
      select true from deliveries d
      where d.recipient_id = i.recipient_id and d.kind = i.kind and d.sender_id = i.sender_id
        and d.state = 'claimed' and d.owner <> i.owner
        and (select true from waiting_runs q where q.within = d.seq limit 1) is null
      limit 1
    ) is null
    -- Others may have taken this process for dead while it was away.
    and not exists (select from processes p where p.id = i.owner and p.ended_at is not null)
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
    claim_until, queued_at, claimed_at
  )
  select seq, recipient_id, kind, sender_id, case when taken then 'claimed' else 'queued' end, taken::integer,
    taken::integer, max_attempts, owner, case when taken then owner end, run_at, expires_at,
    case when taken then now + make_interval(secs => run_limit) end, coalesce(run_at, now),
    case when taken then now end
  from decided order by position
)
select id::text as message_id, seq from decided where taken

-- name: claim_lanes
-- For each request up to its limit of lanes whose head may be claimed, in round-robin order, and a lock on each lane. The
-- walk goes from lane to lane (sender, thread) over deliveries_ready, so a long backlog of one costs nothing. Locks are
-- tried: who does not get one leaves the lane to its holder. claim_take looks again, with a snapshot later than the locks.
with recursive moment as materialized (
  select coalesce($7::timestamptz, store_now()) as now
),
request as materialized (
  select * from unnest($1::text[]::uuid[], $2::text[], $3::integer[], $4::text[]::uuid[], $5::text[]::uuid[], $8::text[])
    with ordinality as r (recipient_id, kind, most, after_sender, origin, after_thread, position)
),
walk as (
  select r.position, 0 as step, 0 as found, case when r.after_sender is null then 2 else 1 end as lap,
    r.after_sender as sender_id,
    r.after_thread collate "C" as thread, null::bigint as seq, null::boolean as suspect, false as with_suspect
  from request r
  union all
  select w.position, w.step + 1, w.found + (head.seq is not null)::integer, lane.lap, lane.sender_id, lane.thread,
    head.seq, head.suspect, w.with_suspect or coalesce(head.suspect, false)
  from walk w
  join request r on r.position = w.position
  cross join lateral (
    -- The next lane: on the first lap those behind the one after which it begins, on the second all up to and including it.
    select x.sender_id, x.thread, x.lap from (
      (select d.sender_id, d.thread, 1 as lap from deliveries d
       where w.lap = 1 and d.recipient_id = r.recipient_id and d.kind = r.kind
         and (d.sender_id, d.thread) > (w.sender_id, w.thread)
         and d.state = 'queued' and d.run_at is null
       order by d.sender_id, d.thread limit 1)
      union all
      (select d.sender_id, d.thread, 2 from deliveries d
       where d.recipient_id = r.recipient_id and d.kind = r.kind
         and (d.sender_id, d.thread) > (
           case when w.lap = 2 and w.step > 0 then w.sender_id else '00000000-0000-0000-0000-000000000000' end,
           case when w.lap = 2 and w.step > 0 then w.thread else '' end
         )
         and (r.after_sender is null or (d.sender_id, d.thread) <= (r.after_sender, r.after_thread))
         and d.state = 'queued' and d.run_at is null
       order by d.sender_id, d.thread limit 1)
    ) x
    order by x.lap limit 1
  ) lane
  left join lateral (
    select d.seq, d.suspect, d.origin from deliveries d, moment m
    where d.recipient_id = r.recipient_id and d.kind = r.kind and d.sender_id = lane.sender_id and d.thread = lane.thread
      and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > m.now)
      and (
        select true from deliveries c
        where c.recipient_id = r.recipient_id and c.kind = r.kind and c.sender_id = lane.sender_id and c.thread = lane.thread
          and c.state = 'claimed'
          -- A run that waits for an answer does not hold its lane: the answer may need it.
          and (select true from waiting_runs q where q.within = c.seq limit 1) is null
        limit 1
      ) is null
      and (r.kind <> 'conversation' or (
        select true from live_waits w
        where w.recipient_id = r.recipient_id and w.sender_id = lane.sender_id
          and (w.thread is null or w.thread = lane.thread) and (w.until_at is null or w.until_at > m.now)
        limit 1
      ) is null)
    order by d.seq + 0 limit 1
  ) head on (r.origin is null or head.origin = r.origin)
    and (not head.suspect or not w.with_suspect and (
      select true from deliveries c
      where c.recipient_id = r.recipient_id and c.state = 'claimed' and c.suspect
      limit 1
    ) is null)
  where w.found < r.most
),
head as materialized (
  select w.position, w.step, w.seq, w.suspect, r.recipient_id, r.kind, w.sender_id, w.thread
  from walk w join request r on r.position = w.position
  where w.seq is not null
  order by w.step, w.position limit $6::integer
)
select h.position::integer, h.step, h.seq, h.suspect
from head h
where pg_try_advisory_xact_lock(hashtextextended(h.recipient_id || ' ' || h.kind || ' ' || h.sender_id || h.thread, 0))
  and (not h.suspect or pg_try_advisory_xact_lock(hashtextextended(h.recipient_id::text, 1)))

-- name: claim_any
-- The same for requests that give up the order: of each lane up to the limit of deliveries, oldest first, and no lane
-- locks. Turns are taken between the lanes by rank.
with recursive moment as materialized (
  select coalesce($7::timestamptz, store_now()) as now
),
request as materialized (
  select * from unnest($1::text[]::uuid[], $2::text[], $3::integer[], $4::text[]::uuid[], $5::text[]::uuid[], $8::text[])
    with ordinality as r (recipient_id, kind, most, after_sender, origin, after_thread, position)
),
walk as (
  select r.position, 0 as step, 0 as found, case when r.after_sender is null then 2 else 1 end as lap,
    r.after_sender as sender_id, r.after_thread collate "C" as thread
  from request r
  union all
  select w.position, w.step + 1, w.found + (head.seq is not null)::integer, lane.lap, lane.sender_id, lane.thread
  from walk w
  join request r on r.position = w.position
  cross join lateral (
    select x.sender_id, x.thread, x.lap from (
      (select d.sender_id, d.thread, 1 as lap from deliveries d
       where w.lap = 1 and d.recipient_id = r.recipient_id and d.kind = r.kind
         and (d.sender_id, d.thread) > (w.sender_id, w.thread)
         and d.state = 'queued' and d.run_at is null
       order by d.sender_id, d.thread limit 1)
      union all
      (select d.sender_id, d.thread, 2 from deliveries d
       where d.recipient_id = r.recipient_id and d.kind = r.kind
         and (d.sender_id, d.thread) > (
           case when w.lap = 2 and w.step > 0 then w.sender_id else '00000000-0000-0000-0000-000000000000' end,
           case when w.lap = 2 and w.step > 0 then w.thread else '' end
         )
         and (r.after_sender is null or (d.sender_id, d.thread) <= (r.after_sender, r.after_thread))
         and d.state = 'queued' and d.run_at is null
       order by d.sender_id, d.thread limit 1)
    ) x
    order by x.lap limit 1
  ) lane
  left join lateral (
    select d.seq from deliveries d, moment m
    where d.recipient_id = r.recipient_id and d.kind = r.kind and d.sender_id = lane.sender_id and d.thread = lane.thread
      and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > m.now)
      and not d.suspect and (r.origin is null or d.origin = r.origin)
      and (r.kind <> 'conversation' or (
        select true from live_waits w
        where w.recipient_id = r.recipient_id and w.sender_id = lane.sender_id
          and (w.thread is null or w.thread = lane.thread) and (w.until_at is null or w.until_at > m.now)
        limit 1
      ) is null)
    order by d.seq + 0 limit 1
  ) head on true
  where w.found < r.most
),
ready as materialized (
  select w.position, w.step, r.most, r.recipient_id, o.seq, o.suspect,
    row_number() over (partition by w.position, w.step order by o.seq) as rank,
    row_number() over (partition by w.position, o.suspect order by o.seq) as rank_of_suspect
  from walk w
  join request r on r.position = w.position
  cross join lateral (
    (select d.seq, d.suspect from deliveries d, moment m
     where d.recipient_id = r.recipient_id and d.kind = r.kind and d.sender_id = w.sender_id and d.thread = w.thread
       and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > m.now)
       and not d.suspect and (r.origin is null or d.origin = r.origin)
     order by d.seq + 0 limit r.most)
    union all
    (select d.seq, d.suspect from deliveries d, moment m
     where d.recipient_id = r.recipient_id and d.kind = r.kind and d.sender_id = w.sender_id and d.thread = w.thread
       and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > m.now)
       and d.suspect and (r.origin is null or d.origin = r.origin)
       and (
         select true from deliveries c
         where c.recipient_id = r.recipient_id and c.state = 'claimed' and c.suspect
         limit 1
       ) is null
     order by d.state, d.seq + 0 limit 1)
  ) o
  where w.step > 0 and (r.kind <> 'conversation' or (
    select true from live_waits a, moment m
    where a.recipient_id = r.recipient_id and a.sender_id = w.sender_id
      and (a.thread is null or a.thread = w.thread) and (a.until_at is null or a.until_at > m.now)
    limit 1
  ) is null)
),
candidate as materialized (
  select y.*, row_number() over (partition by y.position order by y.rank, y.step) as turn
  from ready y
  where not y.suspect or y.rank_of_suspect = 1
)
select c.position::integer, c.turn::integer as step, c.seq, c.suspect
from candidate c
where c.turn <= c.most
  and (not c.suspect or pg_try_advisory_xact_lock(hashtextextended(c.recipient_id::text, 1)))
order by c.turn, c.position limit $6::integer

-- name: claim_take
-- Guarded once more, because the candidates come from an older snapshot. Materialized: as a subquery with a limit and row
-- locks it could be run again for each row and take more than it was told. Rows that somebody locks are left to him.
with moment as materialized (
  select coalesce($5::timestamptz, store_now()) as now
),
candidate as materialized (
  select d.seq, d.suspect, d.recipient_id, i.run_limit, m.now
  from unnest($1::bigint[], $2::boolean[], $3::float8[], $6::boolean[]) as i (seq, ordered, run_limit, suspect)
  join deliveries d on d.seq = i.seq, moment m
  -- Written so that only the primary key fits: an index of the queued ones would be read whole.
  where d.state || '' = 'queued' and (d.run_at is null) is true and (d.expires_at is null or d.expires_at > m.now)
    and (not i.ordered or (
      (
        select true from deliveries c
        where c.recipient_id = d.recipient_id and c.kind = d.kind and c.sender_id = d.sender_id and c.thread = d.thread
          and c.state = 'claimed'
          and (select true from waiting_runs q where q.within = c.seq limit 1) is null
        limit 1
      ) is null
      and (
        select true from deliveries e
        where e.recipient_id = d.recipient_id and e.kind = d.kind and e.sender_id = d.sender_id and e.thread = d.thread
          and e.seq + 0 < d.seq and e.state = 'queued' and e.run_at is null and (e.expires_at is null or e.expires_at > m.now)
        limit 1
      ) is null
    ))
    and (not d.suspect or i.suspect and (
      select true from deliveries c
      where c.recipient_id = d.recipient_id and c.state = 'claimed' and c.suspect
      limit 1
    ) is null)
    and (d.kind <> 'conversation' or (
      select true from live_waits w
      where w.recipient_id = d.recipient_id and w.sender_id = d.sender_id
        and (w.thread is null or w.thread = d.thread) and (w.until_at is null or w.until_at > m.now)
      limit 1
    ) is null)
    -- Others may have taken this process for dead while it was away.
    and not exists (select from processes p where p.id = $4::text::uuid and p.ended_at is not null)
  order by d.seq
  for update of d skip locked
),
sized as materialized (
  -- At most one suspect of a recipient. The sizes are known without reading what they are of.
  select c.*, sum(octet_length(m.content) + coalesce(octet_length(m.metadata), 0)) over (
    order by c.seq rows between unbounded preceding and 1 preceding
  ) as before
  from candidate c join messages m on m.seq = c.seq
  where not c.suspect or c.seq = (
    select min(o.seq) from candidate o where o.suspect and o.recipient_id = c.recipient_id
  )
),
chosen as materialized (
  -- None behind the one with which they reach so many bytes.
  select * from sized s where coalesce(s.before, 0) < $8::bigint
)
update deliveries d set
  state = 'claimed', token = least(d.token, 2147483646) + 1, attempt = least(d.attempt, 2147483646) + 1, owner = $4::text::uuid,
  claimed_at = c.now, claim_until = c.now + make_interval(secs => least(greatest(c.run_limit, d.ask_timeout), 1e9) + $7::float8)
from chosen c join messages m on m.seq = c.seq
where d.seq = c.seq
returning d.seq, d.token, d.attempt, m.id::text as message_id, d.kind, d.sender_id::text, d.recipient_id::text, m.content,
  m.metadata, m.checksum, d.max_attempts, m.created_at, d.origin::text, m.session_id::text, m.topic, d.ask_timeout, d.thread,
  d.ask_timeout is not null and exists (select from streams where ask_id = m.id) as is_streamed,
  m.meeting_id::text, case when d.kind = 'turn' then (
    select t.number from turns t where t.meeting_id = m.meeting_id and t.ended_at is null and t.delivery_seq = d.seq
  ) end as turn

-- name: settle
-- Locked in the order of seq, as everywhere, so that two transactions never wait for each other. A repeat is told by the
-- token, which no claim has raised since, and by the entry of the log that bears it; to redrive is no end of a claim. Only
-- `done` leaves none: so a delivery that was given back, and was done in another way then, was not done by this claim.
with moment as materialized (
  select coalesce($7::timestamptz, store_now()) as now
),
input as materialized (
  select * from unnest($1::bigint[], $2::integer[], $3::text[], $4::float8[], $5::text[], $6::text[], $8::boolean[])
    with ordinality as i (seq, token, how, delay, reason, event, answers, position)
),
locked as materialized (
  -- An agent that answers an ask has read it.
  select d.seq, d.kind, d.state, d.token, d.origin, i.how, i.delay, i.reason, i.event, i.position, m.now,
    i.how = 'done' and i.answers and d.ask_timeout is not null as reads,
    case d.log -> -1 ->> 'event' when 'redriven' then d.log -> -2 else d.log -> -1 end as entry
  from input i join deliveries d on d.seq = i.seq and d.token = i.token, moment m
  order by d.seq
  for update of d
),
moved as (
  update deliveries d set
    state = case l.how when 'done' then 'done' when 'dead' then 'dead' else 'queued' end,
    attempt = greatest(d.attempt, 1) - (l.how = 'returned')::integer,
    suspect = false,
    run_at = case when l.how = 'retry' and l.delay > 0 then l.now + make_interval(secs => l.delay) end,
    queued_at = case when l.how in ('retry', 'returned') then l.now + make_interval(secs => l.delay) else d.queued_at end,
    claim_until = null,
    settled_at = case when l.how in ('done', 'dead') then l.now end,
    read_at = case when l.reads then coalesce(d.read_at, l.now) else d.read_at end,
    log = case when l.how = 'done' then d.log else logged(d, l.now, l.event, l.reason) end
  from locked l
  where d.seq = l.seq and l.state = 'claimed'
)
select l.position::integer, l.kind, l.origin::text, l.how in ('done', 'dead') as final, l.state = 'claimed' as moves
from locked l
where l.state = 'claimed'
  or case when l.entry -> 'token' = to_jsonb(l.token) then l.entry ->> 'event' = l.event
    else l.how = 'done' and l.state = 'done' end

-- name: list_claims
select seq, token, attempt from deliveries where state = 'claimed' and owner = $1::text::uuid order by seq + 0

-- name: find_waiting
-- From pair to pair over deliveries_ready. The last step looks for one that has not expired; the limit keeps the planner
-- from reading all of them to join.
with recursive moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
pair as (
  (select d.recipient_id, d.kind from deliveries d where d.state = 'queued' and d.run_at is null
   order by d.recipient_id, d.kind limit 1)
  union all
  select n.recipient_id, n.kind from pair p cross join lateral (
    select d.recipient_id, d.kind from deliveries d
    where d.state = 'queued' and d.run_at is null and (d.recipient_id, d.kind) > (p.recipient_id, p.kind)
    order by d.recipient_id, d.kind limit 1
  ) n
)
select p.recipient_id::text, p.kind
from pair p, moment m cross join lateral (
  select 1 from deliveries d
  where d.recipient_id = p.recipient_id and d.kind = p.kind and d.state = 'queued' and d.run_at is null
    and (d.expires_at is null or d.expires_at > m.now)
  limit 1
) one

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
  order by d.expires_at limit $2::integer
  for update of d skip locked
)
update deliveries d set state = 'expired', settled_at = l.now from late l where d.seq = l.seq
returning d.origin::text

-- name: advance_due
with late as materialized (
  select d.seq from deliveries d
  where d.state = 'queued' and d.run_at is not null
    and d.run_at <= (select coalesce($1::timestamptz, store_now()))
  order by d.run_at limit $2::integer
  for update of d skip locked
)
update deliveries d set queued_at = d.run_at, run_at = null from late l where d.seq = l.seq

-- name: withdraw
with chosen as materialized (
  select d.seq, m.id from messages m join deliveries d on d.seq = m.seq
  where m.id = any($1::text[]::uuid[]) and d.state = 'queued'
  order by d.seq
  for update of d
),
cancelled as (
  update asks a set state = 'cancelled', ended_at = store_now() from chosen c where a.seq = c.seq and a.state = 'open'
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
order by d.seq desc

-- name: list_dead_of
select m.id::text as message_id, d.sender_id::text, d.recipient_id::text, d.kind, m.content, m.metadata, m.checksum,
  d.attempt, m.created_at, d.settled_at as died_at, d.log, m.topic
from (
  select * from deliveries
  where state = 'dead' and recipient_id = $1::text::uuid
  order by seq + 0 desc limit $2 offset $3
) d
join messages m on m.seq = d.seq
order by d.seq desc

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
returning c.id::text as message_id, d.recipient_id::text

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
