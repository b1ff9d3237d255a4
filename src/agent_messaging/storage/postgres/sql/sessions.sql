-- Conversations: sessions, what is read of them, asks, waits and notices. Locks and their order: asks.sql. For `seq + 0`
-- see deliveries.sql.

-- name: find_session
select s.id::text as session_id, s.agent_a_id::text, s.agent_b_id::text, s.thread, s.session_type, (
    select o.asker_id::text from (
      (select a.seq, a.asker_id from asks a
       where a.asker_id = s.agent_a_id and a.responder_id = s.agent_b_id and a.session_id = s.id and a.state = 'open')
      union all
      (select a.seq, a.asker_id from asks a
       where a.asker_id = s.agent_b_id and a.responder_id = s.agent_a_id and a.session_id = s.id and a.state = 'open')
    ) o
    order by o.seq + 0 limit 1
  ) as waiting_id,
  s.created_at, greatest(s.created_at, s.ended_at, (
    select m.created_at from messages m where m.session_id = s.id order by m.seq + 0 desc limit 1
  )) as updated_at, s.ended_at
from sessions s where s.id = $1::text::uuid

-- name: find_open_session
select s.id::text as session_id, s.agent_a_id::text, s.agent_b_id::text, s.thread, s.session_type, (
    select o.asker_id::text from (
      (select a.seq, a.asker_id from asks a
       where a.asker_id = s.agent_a_id and a.responder_id = s.agent_b_id and a.session_id = s.id and a.state = 'open')
      union all
      (select a.seq, a.asker_id from asks a
       where a.asker_id = s.agent_b_id and a.responder_id = s.agent_a_id and a.session_id = s.id and a.state = 'open')
    ) o
    order by o.seq + 0 limit 1
  ) as waiting_id,
  s.created_at, greatest(s.created_at, s.ended_at, (
    select m.created_at from messages m where m.session_id = s.id order by m.seq + 0 desc limit 1
  )) as updated_at, s.ended_at
from sessions s
where s.agent_a_id = least($1::text::uuid, $2::text::uuid) and s.agent_b_id = greatest($1::text::uuid, $2::text::uuid)
  and s.thread = $3 and s.ended_at is null

-- name: list_sessions
-- Ids are made by time, so the newest is the last. Each side of the pair has an index of its own.
select s.id::text as session_id, s.agent_a_id::text, s.agent_b_id::text, s.thread, s.session_type, (
    select o.asker_id::text from (
      (select a.seq, a.asker_id from asks a
       where a.asker_id = s.agent_a_id and a.responder_id = s.agent_b_id and a.session_id = s.id and a.state = 'open')
      union all
      (select a.seq, a.asker_id from asks a
       where a.asker_id = s.agent_b_id and a.responder_id = s.agent_a_id and a.session_id = s.id and a.state = 'open')
    ) o
    order by o.seq + 0 limit 1
  ) as waiting_id,
  s.created_at, greatest(s.created_at, s.ended_at, (
    select m.created_at from messages m where m.session_id = s.id order by m.seq + 0 desc limit 1
  )) as updated_at, s.ended_at
from (
  select * from (
    (select * from sessions i
     where i.agent_a_id = $1::text::uuid and i.id < coalesce($9::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid
       and (not $2::boolean or i.ended_at is null) and ($5::text is null or i.thread = $5)
       and ($7::timestamptz is null or i.created_at >= $7) and ($8::timestamptz is null or i.created_at <= $8)
       and ($6::text is null or ($6 = 'ended') = (i.ended_at is not null))
       and ($6 is null or $6 = 'ended' or ($6 = 'waiting') = exists (
         select from (values (i.agent_a_id, i.agent_b_id), (i.agent_b_id, i.agent_a_id)) p (asker_id, responder_id)
         join asks a on a.asker_id = p.asker_id and a.responder_id = p.responder_id and a.session_id = i.id and a.state = 'open'
       ))
     order by i.id desc limit $3::bigint + $4::bigint)
    union all
    (select * from sessions i
     where i.agent_b_id = $1::text::uuid and i.id < coalesce($9, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid
       and (not $2 or i.ended_at is null) and ($5 is null or i.thread = $5)
       and ($7 is null or i.created_at >= $7) and ($8 is null or i.created_at <= $8)
       and ($6 is null or ($6 = 'ended') = (i.ended_at is not null))
       and ($6 is null or $6 = 'ended' or ($6 = 'waiting') = exists (
         select from (values (i.agent_a_id, i.agent_b_id), (i.agent_b_id, i.agent_a_id)) p (asker_id, responder_id)
         join asks a on a.asker_id = p.asker_id and a.responder_id = p.responder_id and a.session_id = i.id and a.state = 'open'
       ))
     order by i.id desc limit $3 + $4)
  ) x
  order by x.id desc limit $3 offset $4
) s
order by s.id desc

-- name: end_session_find
-- Locks it. Who waited for another's ending sees that, in its next statement.
select s.id::text as session_id from sessions s
where s.agent_a_id = least($1::text::uuid, $2::text::uuid) and s.agent_b_id = greatest($1::text::uuid, $2::text::uuid)
  and s.thread = $3 and s.ended_at is null
for no key update

-- name: end_session
-- Not if this very ending was stored before: then another session is open now.
update sessions s set ended_at = coalesce($4::timestamptz, store_now()), ended_by = $2::text::uuid
where s.id = $1::text::uuid and (select true from messages m where m.id = $3::text::uuid) is null
returning s.ended_at

-- name: end_session_again
-- PostgreSQL alone: what an earlier try ended.
select e.session_id::text, m.id::text as ask_id, a.origin::text, null as waiter
from messages e
left join asks a on a.session_id = e.session_id and a.state = 'ended'
left join messages m on m.seq = a.seq
where e.id = $1::text::uuid
union all
select e.session_id::text, null, null, w.process_id::text
from messages e
join waits w on (w.recipient_id, w.sender_id) in ((e.recipient_id, e.sender_id), (e.sender_id, e.recipient_id)) and w.is_ended
  and w.thread is not distinct from $2::text
where e.id = $1::text::uuid
union all
select e.session_id::text, null, null, d.owner::text
from messages e
join asks a on a.session_id = e.session_id and a.state = 'ended'
join deliveries d on d.seq = a.seq and d.state = 'claimed'
where e.id = $1::text::uuid

-- name: end_session_asks
with held as materialized (
  select a.seq, m.id from sessions s
  cross join lateral (values (s.agent_a_id, s.agent_b_id), (s.agent_b_id, s.agent_a_id)) p (asker_id, responder_id)
  join asks a on a.asker_id = p.asker_id and a.responder_id = p.responder_id and a.session_id = s.id and a.state = 'open'
  join deliveries d on d.seq = a.seq join messages m on m.seq = a.seq
  where s.id = $1::text::uuid
  order by a.seq + 0
  for update of d
)
update asks a set state = 'ended', ended_at = $2::timestamptz from held h where a.seq = h.seq and a.state || '' = 'open'
returning a.seq, h.id::text as ask_id, a.origin::text

-- name: end_session_waits
-- Those for the thread; with the main one (null) those for any.
with held as materialized (
  select w.id from waits w
  where not w.is_ended and w.thread is not distinct from $3::text and (
    w.recipient_id = $1::text::uuid and w.sender_id = $2::text::uuid
    or w.recipient_id = $2::text::uuid and w.sender_id = $1::text::uuid
  )
  order by w.id
  for update
)
update waits w set is_ended = true from held h where w.id = h.id
returning w.process_id::text

-- name: end_session_store
with stored as (
  insert into messages (id, kind, sender_id, recipient_id, session_id, message_type, content, checksum, created_at)
  values (
    $1::text::uuid, 'conversation', $2::text::uuid, $3::text::uuid, $4::text::uuid, 'ending', $5, $6, $7::timestamptz
  )
  returning seq
)
insert into deliveries (
  seq, recipient_id, kind, sender_id, thread, state, max_attempts, queued_at, settled_at, read_at
)
select s.seq, $3::text::uuid, 'conversation', $2::text::uuid, $8, 'done', 1, $7, $7, $7 from stored s

-- name: count_messages
select count(*) as messages, count(d.read_at) as read
from messages m left join deliveries d on d.seq = m.seq
where m.session_id = $1::text::uuid

-- name: statistics
with mine as materialized (
  select i.agent_b_id as partner_id, i.ended_at from sessions i
  where i.agent_a_id = $1::text::uuid and ($2::text is null or i.thread = $2)
  union all
  select i.agent_a_id, i.ended_at from sessions i
  where i.agent_b_id = $1::text::uuid and ($2 is null or i.thread = $2)
)
select
  (select count(*) from mine) as sessions,
  (select count(*) from mine where ended_at is null) as open_sessions,
  (select count(distinct partner_id) from mine) as partners,
  (
    select count(*) from messages m
    where m.sender_id = $1::text::uuid and m.kind = 'conversation' and m.message_type = 'user_defined'
      and ($2 is null or (select d.thread = $2 from deliveries d where d.seq = m.seq limit 1))
  ) as sent,
  (
    select count(*) from messages m
    where m.recipient_id = $1::text::uuid and m.kind = 'conversation' and m.message_type = 'user_defined'
      and ($2 is null or (select d.thread = $2 from deliveries d where d.seq = m.seq limit 1))
  ) as received,
  (
    select count(*) from deliveries d join messages m on m.seq = d.seq
    where d.recipient_id = $1::text::uuid and d.kind = 'conversation' and d.read_at is null
      and (d.run_at is null or d.token > 0) and not (d.state = 'expired' and d.expires_at is not null)
      and m.message_type = 'user_defined' and ($2 is null or d.thread = $2)
  ) as unread

-- name: list_messages
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
from messages m left join deliveries d on d.seq = m.seq
where m.session_id = $1::text::uuid
  and m.seq + 0 > coalesce($4::bigint, 0) and m.seq + 0 < coalesce($5::bigint, 9223372036854775807)
  and ($6::timestamptz is null or m.created_at >= $6) and ($7::timestamptz is null or m.created_at <= $7)
  and ($8::text[] is null or m.message_type = any($8::text[]))
  and ($9::text[] is null or not exists (
    select from unnest($9::text[]) n (needle) where coalesce(strpos(m.metadata, n.needle), 0) = 0
  ))
  and (not $10::boolean or d.read_at is null) and ($11::text[] is null or d.state = any($11::text[]))
order by m.seq + 0 limit $2::bigint offset $3::bigint

-- name: list_messages_newest
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
from messages m left join deliveries d on d.seq = m.seq
where m.session_id = $1::text::uuid
  and m.seq + 0 > coalesce($4::bigint, 0) and m.seq + 0 < coalesce($5::bigint, 9223372036854775807)
  and ($6::timestamptz is null or m.created_at >= $6) and ($7::timestamptz is null or m.created_at <= $7)
  and ($8::text[] is null or m.message_type = any($8::text[]))
  and ($9::text[] is null or not exists (
    select from unnest($9::text[]) n (needle) where coalesce(strpos(m.metadata, n.needle), 0) = 0
  ))
  and (not $10::boolean or d.read_at is null) and ($11::text[] is null or d.state = any($11::text[]))
order by m.seq + 0 desc limit $2::bigint offset $3::bigint

-- name: read_find
-- A message that is not due yet is none of them, nor one that expired before anybody began with it.
-- None behind the one with which they reach so many bytes; `found` is how many there are, up to the limit. The sizes are
-- known without reading what they are of.
select p.seq, p.message_id, p.kind, p.sender_id, p.recipient_id, p.content, p.metadata, p.checksum, p.created_at, p.read_at,
  p.session_id, p.message_type, p.thread, p.found
from (
  select i.*, count(*) over () as found, sum(octet_length(i.content) + coalesce(octet_length(i.metadata), 0)) over (
    order by i.seq rows between unbounded preceding and 1 preceding
  ) as before
  from (
    select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
      m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
    from (select coalesce($5::timestamptz, store_now()) as now) t cross join deliveries d
    cross join lateral (select * from messages o where o.seq = d.seq and o.message_type = 'user_defined' limit 1) m
    where d.recipient_id = $1::text::uuid and d.kind = 'conversation' and d.read_at is null
      and d.seq + 0 > coalesce($2::bigint, 0)
      and (d.run_at is null or d.token > 0)
      and (d.expires_at is null or d.expires_at > t.now or d.state not in ('queued', 'expired'))
    order by d.seq + 0 limit $3::bigint
  ) i
) p
where coalesce(p.before, 0) < $4::bigint
order by p.seq

-- name: read_find_from
-- A statement has one plan for all values: so read_find, this one and read_find_in are three, each with an index of its own.
select p.seq, p.message_id, p.kind, p.sender_id, p.recipient_id, p.content, p.metadata, p.checksum, p.created_at, p.read_at,
  p.session_id, p.message_type, p.thread, p.found
from (
  select i.*, count(*) over () as found, sum(octet_length(i.content) + coalesce(octet_length(i.metadata), 0)) over (
    order by i.seq rows between unbounded preceding and 1 preceding
  ) as before
  from (
    select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
      m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
    from (select coalesce($6::timestamptz, store_now()) as now) t cross join deliveries d
    cross join lateral (select * from messages o where o.seq = d.seq and o.message_type = 'user_defined' limit 1) m
    where d.recipient_id = $1::text::uuid and d.kind = 'conversation' and d.read_at is null
      and d.seq + 0 > coalesce($2::bigint, 0) and d.sender_id = $4::text::uuid
      and (d.run_at is null or d.token > 0)
      and (d.expires_at is null or d.expires_at > t.now or d.state not in ('queued', 'expired'))
    order by d.seq + 0 limit $3::bigint
  ) i
) p
where coalesce(p.before, 0) < $5::bigint
order by p.seq

-- name: read_find_in
-- In one thread, of all senders or of one.
select p.seq, p.message_id, p.kind, p.sender_id, p.recipient_id, p.content, p.metadata, p.checksum, p.created_at, p.read_at,
  p.session_id, p.message_type, p.thread, p.found
from (
  select i.*, count(*) over () as found, sum(octet_length(i.content) + coalesce(octet_length(i.metadata), 0)) over (
    order by i.seq rows between unbounded preceding and 1 preceding
  ) as before
  from (
    select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
      m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
    from (select coalesce($7::timestamptz, store_now()) as now) t cross join deliveries d
    cross join lateral (select * from messages o where o.seq = d.seq and o.message_type = 'user_defined' limit 1) m
    where d.recipient_id = $1::text::uuid and d.thread = $6 and d.thread <> '' and d.read_at is null
      and d.seq + 0 > coalesce($2::bigint, 0) and ($4::text is null or d.sender_id = $4::text::uuid)
      and (d.run_at is null or d.token > 0)
      and (d.expires_at is null or d.expires_at > t.now or d.state not in ('queued', 'expired'))
    order by d.seq + 0 limit $3::bigint
  ) i
) p
where coalesce(p.before, 0) < $5::bigint
order by p.seq

-- name: read_mark
-- Those of the page that nobody else has read meanwhile; by an agent's own code, in the run of a message or outside any.
-- What is queued is done with it, and an open ask is taken; what is claimed is left to its run, and its ask with it.
with chosen as materialized (
  select d.seq, d.state, t.now
  from (select coalesce($2::timestamptz, store_now()) as now) t, deliveries d
  where d.seq = any($1::bigint[]) and (d.read_at is null) is true
  order by d.seq + 0
  for update of d
),
asked as (
  update asks a set taken_within = coalesce((select w.seq from messages w where w.id = $3::text::uuid), 0)
  from chosen c where a.seq = c.seq and c.state = 'queued' and a.state || '' = 'open'
)
update deliveries d set
  read_at = c.now,
  state = case c.state when 'queued' then 'done' else d.state end,
  settled_at = case c.state when 'queued' then c.now else d.settled_at end
from chosen c where d.seq = c.seq
returning d.seq, d.read_at

-- name: return_messages_lock
-- PostgreSQL alone: what that very call took, and nobody has read since; so the next statement sees whether it was answered.
select d.seq from unnest($1::bigint[], $2::timestamptz[]) as i (seq, read_at)
join deliveries d on d.seq = i.seq and d.read_at = i.read_at
order by d.seq + 0
for update of d

-- name: return_messages
-- Settled in the instant in which it was read it was taken from the queue. Whoever has answered an ask has read it.
with returned as (
  update asks a set taken_within = null where a.seq = any($1::bigint[]) and a.state || '' = 'open'
)
update deliveries d set
  read_at = null,
  settled_at = case when d.state = 'done' and d.settled_at = d.read_at then null else d.settled_at end,
  state = case when d.state = 'done' and d.settled_at = d.read_at then 'queued' else d.state end
where d.seq = any($1::bigint[])
  and (select true from asks a where a.seq = d.seq and a.state = 'replied' limit 1) is null

-- name: return_messages_waits
select distinct w.process_id::text as waiter
from deliveries d
join waits w on w.recipient_id = d.recipient_id and w.sender_id = d.sender_id and (w.thread is null or w.thread = d.thread)
left join processes p on p.id = w.process_id
where d.seq = any($1::bigint[]) and (d.read_at is null) is true and not w.is_ended
  and (w.until_at is null or w.until_at > coalesce($2::timestamptz, store_now())) and p.ended_at is null

-- name: reject_messages
-- What that very call took, and no handler has or had: settled in that instant, or done without one. It ended no claim, so
-- the log's entry bears no token.
with held as materialized (
  select d.seq, t.now
  from (select coalesce($3::timestamptz, store_now()) as now) t,
    unnest($1::bigint[], $2::timestamptz[]) as i (seq, read_at)
  join deliveries d on d.seq = i.seq and d.read_at = i.read_at
  where d.state || '' = 'done' and (d.settled_at = d.read_at or d.token = 0)
  order by d.seq + 0
  for update of d
)
update deliveries d set
  state = 'dead', settled_at = h.now,
  log = coalesce(d.log, '[]') || jsonb_build_array(jsonb_build_object(
    'at', h.now, 'event', 'dead', 'attempt', d.attempt, 'process', $4::text, 'claimed_at', null, 'reason', $5::text
  ))
from held h where d.seq = h.seq
returning d.seq

-- name: find_asks
-- Behind the answer with which they reach so many bytes the others come without their contents: these are `left` for another
-- look. The sizes are known without reading what they are of.
select p.ask_id, p.session_id, p.asker_id, p.responder_id, p.state, p.origin, p.deadline_at, p.reason, p.worker, p.answer_id,
  case when not p.is_left then p.content end as content, case when not p.is_left then p.metadata end as metadata,
  p.checksum, p.is_left
from (
  select i.*, coalesce(sum(octet_length(i.content) + coalesce(octet_length(i.metadata), 0)) over (
    order by i.position rows between unbounded preceding and 1 preceding
  ), 0) >= $2::bigint as is_left
  from (
    select i.position, (select d.owner::text from deliveries d where d.seq = m.seq and d.state || '' = 'claimed') as worker,
      m.id::text as ask_id, a.session_id::text, a.asker_id::text, a.responder_id::text, a.state,
      a.origin::text, a.deadline_at, a.reason, q.id::text as answer_id, q.content, q.metadata, q.checksum
    from unnest($1::text[]::uuid[]) with ordinality as i (id, position)
    join messages m on m.id = i.id
    join asks a on a.seq = m.seq
    left join messages q on q.seq = a.answer_seq
  ) i
) p

-- name: find_ended_asks
-- As find_asks; those that are open are none of the rows, and those that do not exist have a row without an ask.
select p.asked_id, p.ask_id, p.session_id, p.asker_id, p.responder_id, p.state, p.origin, p.deadline_at, p.reason, p.answer_id,
  case when not p.is_left then p.content end as content, case when not p.is_left then p.metadata end as metadata,
  p.checksum, p.is_left
from (
  select i.*, coalesce(sum(octet_length(i.content) + coalesce(octet_length(i.metadata), 0)) over (
    order by i.position rows between unbounded preceding and 1 preceding
  ), 0) >= $2::bigint as is_left
  from (
    select i.position, i.id as asked_id, m.id::text as ask_id, a.session_id::text, a.asker_id::text, a.responder_id::text,
      a.state, a.origin::text, a.deadline_at, a.reason, q.id::text as answer_id, q.content, q.metadata, q.checksum
    from unnest($1::text[]) with ordinality as i (id, position)
    left join messages m on m.id = i.id::uuid
    left join asks a on a.seq = m.seq
    left join messages q on q.seq = a.answer_seq
    where (a.state = 'open') is not true
  ) i
) p

-- name: list_open_asks
-- The index of open asks is read whole: it is as long as there are callers that wait.
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic, a.deadline_at
from (
  select a.seq, a.deadline_at from asks a
  where a.responder_id = $1::text::uuid and a.state = 'open' order by a.seq + 0 limit $2::integer offset $3::integer
) a
cross join lateral (select * from messages o where o.seq = a.seq limit 1) m
cross join lateral (select * from deliveries o where o.seq = a.seq limit 1) d
order by m.seq + 0

-- name: close_asks
-- Thousands at once, also where the server has no statistics yet: by their keys, however few it takes the others for.
with held as materialized (
  select d.seq, case d.state when 'claimed' then d.owner::text end as worker from deliveries d
  where d.seq = any(array(select m.seq from unnest($1::text[]::uuid[]) as i (id) join messages m on m.id = i.id))
  order by d.seq + 0
  for update of d
)
update asks a set state = $2, ended_at = coalesce($3::timestamptz, store_now()), reason = $4
where a.seq = any(array(select h.seq from held h)) and a.state || '' = 'open'
  and ($5::text is null or a.responder_id = $5::text::uuid)
returning a.seq, (select m.id::text from messages m where m.seq = a.seq) as ask_id, a.session_id::text,
  a.asker_id::text, a.responder_id::text, a.state, a.origin::text, a.deadline_at, a.reason,
  (select h.worker from held h where h.seq = a.seq) as worker, null as answer_id

-- name: close_asks_unread
-- Read since it was stored, by the call that has given up now. What its recipient read later, in another way, stays read.
with held as materialized (
  select d.seq from messages m join asks a on a.seq = m.seq join deliveries d on d.seq = a.answer_seq
  where m.id = any($1::text[]::uuid[]) and a.state = 'replied' and d.read_at = d.settled_at
  order by d.seq + 0
  for update of d
)
update deliveries d set read_at = null from held h where d.seq = h.seq

-- name: register_wait
insert into waits (id, recipient_id, sender_id, thread, process_id, until_at, within)
values (
  $1::text::uuid, $2::text::uuid, $3::text::uuid, $8, $5::text::uuid,
  coalesce($6::timestamptz, store_now()) + make_interval(secs => $4::float8),
  (select m.seq from messages m where m.id = $7::text::uuid)
)
on conflict (id) do nothing

-- name: find_waits
select i.id as wait_id, w.id is not null as is_known, w.is_ended, r.is_ready is true as is_ready
from (select coalesce($2::timestamptz, store_now()) as now) t
cross join unnest($1::text[]) as i (id)
left join waits w on w.id = i.id::uuid
left join lateral (
  select true as is_ready where (
    select true from deliveries d
    where d.recipient_id = w.recipient_id and d.kind = 'conversation' and d.sender_id = w.sender_id
      and (w.thread is null or d.thread = w.thread)
      and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > t.now)
      and (d.read_at is null) is true
    limit 1
  ) or w.thread is null and (
    select true from deliveries d
    where d.recipient_id = w.recipient_id and d.kind = 'conversation' and d.sender_id = w.sender_id
      and d.state = 'done' and d.token = 0 and (d.read_at is null) is true
    limit 1
  ) or (
    select true from deliveries d
    where d.recipient_id = w.recipient_id and d.thread = w.thread and d.thread <> '' and d.sender_id = w.sender_id
      and d.state = 'done' and d.token = 0 and d.read_at is null
    limit 1
  )
) r on true
where w.id is null or w.is_ended or r.is_ready

-- name: take_find
-- The oldest of what is queued in the main thread, or the one that is named ($4); of what is queued in the others; and of
-- what no handler had. Unread is written so that the indexes of all that is unread do not fit, which may be much more.
select x.seq from (
  (select d.seq from deliveries d, (select coalesce($3::timestamptz, store_now()) as now) t
   where d.recipient_id = $1::text::uuid and d.kind = 'conversation' and d.sender_id = $2::text::uuid
     and d.thread = coalesce($4::text, '')
     and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > t.now)
     and (d.read_at is null) is true
   order by d.seq + 0 limit 1)
  union all
  (select d.seq from deliveries d, (select coalesce($3::timestamptz, store_now()) as now) t
   where $4 is null and d.recipient_id = $1::text::uuid and d.sender_id = $2::text::uuid and d.thread <> ''
     and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > t.now)
     and (d.read_at is null) is true
   order by d.seq + 0 limit 1)
  union all
  (select d.seq from deliveries d
   where $4 is null and d.recipient_id = $1::text::uuid and d.kind = 'conversation' and d.sender_id = $2::text::uuid
     and d.state = 'done' and d.token = 0 and (d.read_at is null) is true
   order by d.seq + 0 limit 1)
  union all
  (select d.seq from deliveries d
   where d.recipient_id = $1::text::uuid and d.thread = $4 and d.thread <> '' and d.sender_id = $2::text::uuid
     and d.state = 'done' and d.token = 0 and d.read_at is null
   order by d.seq + 0 limit 1)
) x
order by x.seq limit 1

-- name: take
-- Guarded once more: it was found before, and without a lock.
with taken as (
  update deliveries d set
    read_at = t.now, state = 'done', settled_at = case d.state when 'queued' then t.now else d.settled_at end
  from (select coalesce($2::timestamptz, store_now()) as now) t
  where d.seq = $1::bigint and (d.read_at is null) is true
    and (d.state || '' = 'queued' and (d.run_at is null) is true or d.state || '' = 'done' and d.token = 0)
  returning d.seq, d.read_at, d.thread
),
asked as (
  update asks a set taken_within = coalesce((select w.seq from messages w where w.id = $3::text::uuid), 0)
  from taken d where a.seq = d.seq and a.state || '' = 'open'
)
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
from taken d join messages m on m.seq = d.seq

-- name: remove_wait
delete from waits where id = $1::text::uuid

-- name: take_notices_find
with moment as materialized (
  select coalesce($2::timestamptz, store_now()) as now
)
select $1::text[] is null and exists (select from notices n where n.created_at <= (select m.now from moment m)) or exists (
  select from unnest($1::text[]::uuid[]) as i (recipient_id)
  cross join lateral (
    select from notices n where n.recipient_id = i.recipient_id and n.created_at <= (select m.now from moment m) limit 1
  ) one
) as found

-- name: drop_notices
-- Everybody's: those whom nobody asks for are dropped by whoever asks. The oldest come first.
with late as materialized (
  select n.seq from notices n
  where n.created_at < (select coalesce($1::timestamptz, store_now()) - interval '1 minute')
  order by n.created_at limit 10000
  for update skip locked
)
delete from notices n using late l where n.seq = l.seq

-- name: take_notices
-- None behind the one with which they reach so many bytes, as far as their messages are still there.
with moment as materialized (
  select coalesce($4::timestamptz, store_now()) as now
),
locked as materialized (
  select n.seq from notices n
  where ($1::text[] is null or n.recipient_id = any($1::text[]::uuid[]))
    and n.created_at >= (select m.now - interval '1 minute' from moment m) and n.created_at <= (select m.now from moment m)
  order by n.seq limit $2::bigint
  for update skip locked
),
chosen as materialized (
  select l.seq, sum(octet_length(m.content) + coalesce(octet_length(m.metadata), 0)) over (
    order by l.seq rows between unbounded preceding and 1 preceding
  ) as before
  from locked l left join messages m on m.seq = l.seq
),
taken as (
  delete from notices n using chosen c where n.seq = c.seq and coalesce(c.before, 0) < $3::bigint returning n.seq
)
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread
from taken n join messages m on m.seq = n.seq left join deliveries d on d.seq = m.seq
order by m.seq + 0
