-- Passing an open ask on.
--
-- The id of an ask goes along, so everybody that knows the ask by it finds it where it is. What stays in the first
-- conversation gets another id.

-- name: forward_load
-- One row, or none where no ask has this id.
select json_array(a.seq, a.asker_id, a.responder_id, a.state, a.within, d.state, d.token, d.thread, a.deadline_due - :now, s.id,
  exists (select 1 from agents where id = :to), o.seq, (select id from messages where seq = o.seq), (
    with recursive chain (seq, within) as (
      select seq, within from asks where seq = a.within and state = 'open'
      union
      select x.seq, x.within from chain as c cross join asks as x on x.seq = c.within where x.state = 'open'
    )
    select c.seq from chain as c cross join asks as x on x.seq = c.seq
    where x.asker_id = a.asker_id and x.responder_id = :to limit 1
  ), json((
    select json_group_array(distinct process_id) from waits
    where recipient_id = :to and sender_id = a.asker_id and (thread is null or thread = d.thread)
      and is_ended = 0 and (until_due is null or until_due > :now)
  )))
from messages as m
cross join deliveries as d on d.seq = m.seq
cross join asks as a on a.seq = m.seq
left join sessions as s on s.agent_a_id = min(a.asker_id, :to) and s.agent_b_id = max(a.asker_id, :to)
  and s.thread = d.thread and s.ended_at is null
left join deliveries as o on o.sender_id = a.asker_id and o.recipient_id = :to and o.session_id = s.id and o.ask_state = 'open'
where m.id = :message

-- name: forward_keep
update messages set id = :kept, message_type = 'forwarded' where seq = :seq

-- name: forward_insert_message
insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, created_at)
select :new_seq, :message, kind, sender_id, :to, :session, content, metadata, checksum, :at from messages where seq = :seq

-- name: forward_insert_delivery
insert into deliveries (seq, recipient_id, kind, sender_id, session_id, thread, state, max_attempts, origin, queued_due,
  ask_timeout, ask_state, ask_within, ask_keyed, ask_origin, ask_deadline_due, ask_deadline_at)
select :new_seq, :to, kind, sender_id, :session, thread, 'queued', max_attempts, :owner, :now, :left, ask_state, ask_within,
  ask_keyed, ask_origin, ask_deadline_due, ask_deadline_at
from deliveries where seq = :seq

-- name: forward_move_ask
-- The ask is part of the new delivery already.
update deliveries set ask_state = null, ask_within = null, ask_taken_within = null, ask_keyed = null, ask_origin = null,
  ask_deadline_due = null, ask_deadline_at = null
where seq = :seq

-- name: forward_end_delivery
update deliveries set
  state = 'done', suspect = 0, run_due = 0, run_at = null, claim_until_due = null, read_at = coalesce(read_at, :at),
  settled_at = iif(state in ('queued', 'claimed'), :at, settled_at),
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'forwarded',
    'attempt', attempt, 'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', null))
where seq = :seq

-- name: forward_insert_hop
insert into hops (message_id, number, asker_id, from_id, to_id, kept_id, kept_seq, stored_at, forwarded_at)
select :message, :number, :asker, :holder, :to, :kept, :seq, created_at, :at from messages where seq = :seq

-- name: list_hops
-- Of asks, and of the messages that stayed where asks were passed on.
select json_group_array(json_array(h.message_id, h.number, h.from_id, h.to_id, h.kept_id, h.kept_seq, h.stored_at,
  h.forwarded_at)) from (
  select * from hops
  where message_id in (select value from jsonb_each(:ids))
    or message_id in (select k.message_id from jsonb_each(:ids) as wanted cross join hops as k on k.kept_id = wanted.value)
  order by message_id, number
) as h
