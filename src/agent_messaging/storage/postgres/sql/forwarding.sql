-- Passing an open ask on. The order of locks is that of sql/asks.sql: agents, the session, the delivery, "asks".
--
-- The id of an ask goes along, so everybody that knows the ask by it finds it where it is. What stays in the first
-- conversation gets another id.

-- name: forward_load
-- One row, or none where no ask has this id.
select a.seq, a.asker_id::text, a.responder_id::text, a.state, a.within, d.state as place, d.token, d.thread,
  extract(epoch from a.deadline_at - t.now)::float8 as left, s.id::text as session_id,
  exists (select from agents g where g.id = $2::text::uuid) as is_agent,
  o.seq as asked_seq, (select q.id::text from messages q where q.seq = o.seq) as asked_id,
  (
    with recursive chain as (
      select c.seq, c.within, c.asker_id, c.responder_id from asks c where c.seq = a.within and c.state || '' = 'open'
      union
      select c.seq, c.within, c.asker_id, c.responder_id from chain x join asks c on c.seq = x.within and c.state || '' = 'open'
    )
    select x.seq from chain x where x.asker_id = a.asker_id and x.responder_id = $2::text::uuid limit 1
  ) as chained,
  array(
    select distinct w.process_id::text from live_waits w
    where w.recipient_id = $2::text::uuid and w.sender_id = a.asker_id and (w.thread is null or w.thread = d.thread)
      and (w.until_at is null or w.until_at > t.now)
  ) as waiters
from (select coalesce($3::timestamptz, store_now()) as now) t
cross join messages m
join deliveries d on d.seq = m.seq
join asks a on a.seq = m.seq
left join sessions s on s.agent_a_id = least(a.asker_id, $2::text::uuid)
  and s.agent_b_id = greatest(a.asker_id, $2::text::uuid) and s.thread = d.thread and s.ended_at is null
left join asks o on o.asker_id = a.asker_id and o.responder_id = $2::text::uuid and o.session_id = s.id and o.state = 'open'
where m.id = $1::text::uuid

-- name: forward_lock
-- PostgreSQL alone: whoever changes an ask holds the row of its delivery from before. What is loaded next is what the last
-- holder has left. Its message is given another id, and whoever moves the index of words on holds that before the delivery.
select from messages m join deliveries d on d.seq = m.seq where m.seq = $1::bigint for update

-- name: forward_keep
update messages set id = $2::text::uuid, message_type = 'forwarded' where seq = $1::bigint

-- name: forward_insert_message
insert into messages (id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, created_at)
select $2::text::uuid, kind, sender_id, $3::text::uuid, $4::text::uuid, content, metadata, checksum,
  coalesce($5::timestamptz, store_now())
from messages where seq = $1::bigint
returning seq

-- name: forward_insert_delivery
insert into deliveries (seq, recipient_id, kind, sender_id, thread, state, max_attempts, origin, queued_at, ask_timeout)
select $2::bigint, $3::text::uuid, kind, sender_id, thread, 'queued', max_attempts, $4::text::uuid,
  coalesce($6::timestamptz, store_now()), $5::float8
from deliveries where seq = $1::bigint

-- name: forward_move_ask
update asks set seq = $2::bigint, responder_id = $3::text::uuid, session_id = $4::text::uuid, taken_within = null
where seq = $1::bigint

-- name: forward_end_delivery
update deliveries d set
  state = 'done', suspect = false, run_at = null, claim_until = null, read_at = coalesce(d.read_at, t.now),
  settled_at = case when d.state in ('queued', 'claimed') then t.now else d.settled_at end,
  log = logged(d, t.now, 'forwarded', null)
from (select coalesce($2::timestamptz, store_now()) as now) t
where d.seq = $1::bigint

-- name: forward_insert_hop
insert into hops (message_id, number, asker_id, from_id, to_id, kept_id, kept_seq, stored_at, forwarded_at)
select $1::text::uuid, $2, $3::text::uuid, $4::text::uuid, $5::text::uuid, $6::text::uuid, m.seq, m.created_at,
  coalesce($8::timestamptz, store_now())
from messages m where m.seq = $7::bigint

-- name: list_hops
-- Of asks, and of the messages that stayed where asks were passed on.
select h.message_id::text, h.number, h.from_id::text, h.to_id::text, h.kept_id::text, h.kept_seq, h.stored_at,
  h.forwarded_at
from hops h
where h.message_id = any($1::text[]::uuid[])
  or h.message_id in (select k.message_id from hops k where k.kept_id = any($1::text[]::uuid[]))
order by h.message_id, h.number
