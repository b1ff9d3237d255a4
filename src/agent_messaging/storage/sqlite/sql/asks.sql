-- What append, settle, and whatever else ends claims or processes do with asks. Every ask is ended by asks_end, or, with the
-- answer of its run, by settle_read.

-- name: append_find_pairs
-- For each conversation message (sender, recipient, id of the message in whose run it is made, thread, whether it may answer
-- in another one): the open session; the open ask in it of the sender to the recipient, and of the recipient to the sender;
-- whether the recipient asks anything else; who waits for the message; the run; whether that is made for an ask of the
-- recipient to the sender; the ask of the sender to the recipient in which the run was made, however deep; and of the open
-- asks of the recipient to the sender in other threads a few, with whether the sender's own code has taken them.
with wanted as materialized (
  select value ->> 0 as sender_id, value ->> 1 as recipient_id, value ->> 2 as within, value ->> 4 as anywhere, (
    select id from sessions
    where agent_a_id = min(value ->> 0, value ->> 1) and agent_b_id = max(value ->> 0, value ->> 1)
      and thread = value ->> 3 and ended_at is null
  ) as session_id, value ->> 3 as thread
  from jsonb_each(:groups)
)
select json_group_array(json_array(
  g.session_id,
  json((
    select json_array(a.seq, m.id, a.origin, a.within, a.taken_within) from asks as a cross join messages as m on m.seq = a.seq
    where a.asker_id = g.sender_id and a.responder_id = g.recipient_id and a.session_id = g.session_id and a.state = 'open'
  )),
  json((
    select json_array(a.seq, m.id, a.origin, a.within, a.taken_within) from asks as a cross join messages as m on m.seq = a.seq
    where a.asker_id = g.recipient_id and a.responder_id = g.sender_id and a.session_id = g.session_id and a.state = 'open'
  )),
  exists (
    select 1 from asks
    where asker_id = g.recipient_id and (responder_id <> g.sender_id or session_id is not g.session_id) and state = 'open'
  ),
  json((
    select json_group_array(distinct process_id) from waits
    where recipient_id = g.recipient_id and sender_id = g.sender_id and (thread is null or thread = g.thread)
      and is_ended = 0 and (until_due is null or until_due > :now)
  )),
  (select seq from messages where id = g.within),
  exists (
    select 1 from messages as m cross join asks as a on a.seq = m.seq
    where m.id = g.within and a.asker_id = g.recipient_id and a.responder_id = g.sender_id
  ),
  (
    with recursive chain (seq, within) as (
      select a.seq, a.within from messages as m cross join asks as a on a.seq = m.seq where m.id = g.within and a.state = 'open'
      union
      select a.seq, a.within from chain as c cross join asks as a on a.seq = c.within where a.state = 'open'
    )
    select c.seq from chain as c cross join asks as a on a.seq = c.seq
    where a.asker_id = g.sender_id and a.responder_id = g.recipient_id limit 1
  ),
  json((
    select json_group_array(json_array(s.thread, a.taken)) from (
      select session_id, 1 as taken from (
        select session_id from deliveries indexed by asks_taken
        where g.anywhere and sender_id = g.recipient_id and recipient_id = g.sender_id and ask_state = 'open'
          and ask_taken_within = 0
        order by seq limit 3
      )
      union all
      select session_id, 0 from (
        select session_id from deliveries indexed by asks_open
        where g.anywhere and sender_id = g.recipient_id and recipient_id = g.sender_id and ask_state = 'open'
          and ask_taken_within is not 0
        limit 3
      )
    ) as a cross join sessions as s on s.id = a.session_id where s.id is not g.session_id
  ))
))
from wanted as g

-- name: append_find_reach
-- The open asks that can be reached from these agents, from each asker to its responder. What lies behind the bound can
-- only make an ask look as if it could be answered.
with recursive reached (agent_id) as (
  select value from jsonb_each(:agents)
  union
  select a.responder_id from reached as r cross join asks as a on a.asker_id = r.agent_id and a.state = 'open'
  limit 10000
)
select json_group_array(json_array(a.seq, a.asker_id, a.responder_id, a.within, a.taken_within, d.state))
from reached as r
cross join asks as a on a.asker_id = r.agent_id and a.state = 'open'
cross join deliveries as d on d.seq = a.seq

-- name: append_find_staff
-- An agent's own handlers alone serve it where it has any (explicit); else those for everybody and for whom nobody else does.
-- A process that serves it by its name and as one of all has its slots once.
select json_group_array(json_array(wanted.value, coalesce((
  select sum(min(slots, 10000)) from (
    select max(s.slots) as slots from processes as p indexed by processes_living
    cross join services as s on s.process_id = p.id and s.agent_id = wanted.value and s.kind = 'conversation'
    where p.ended_at is null and s.explicit = 1
    group by p.id
  )
), (
  select sum(min(slots, 10000)) from (
    select max(s.slots) as slots from processes as p indexed by processes_living
    cross join services as s on s.process_id = p.id and s.agent_id in (wanted.value, '') and s.kind = 'conversation'
    where p.ended_at is null
    group by p.id
  )
), 0), json((
  select json_group_array(seq) from deliveries
  where recipient_id = wanted.value and kind = 'conversation' and state = 'claimed'
))))
from jsonb_each(:agents) as wanted

-- name: append_open_sessions
insert into sessions (id, agent_a_id, agent_b_id, thread, session_type, created_at)
select value ->> 0, min(value ->> 1, value ->> 2), max(value ->> 1, value ->> 2), value ->> 3, value ->> 4, :at
from jsonb_each(:rows)

-- name: append_insert_notices
-- The third is when it is to be told, where that is later.
insert into notices (seq, recipient_id, created_due)
select value ->> 0, value ->> 1, coalesce(value ->> 2, :now) from jsonb_each(:rows)

-- name: asks_end
-- :rows are (seq, state, seq of the answer, reason).
update deliveries set ask_state = ended.state, ask_answer_seq = ended.answer_seq, ask_reason = ended.reason, ask_ended_at = :at
from (
  select value ->> 0 as seq, value ->> 1 as state, value ->> 2 as answer_seq, value ->> 3 as reason from jsonb_each(:rows)
) as ended
where deliveries.seq = ended.seq and deliveries.ask_state = 'open'

-- name: asks_settle_deliveries
-- What is queued for an ask that has ended needs no handler any more; whoever answered one has read it.
update deliveries set
  state = iif(deliveries.state <> 'queued', deliveries.state, iif(ended.state = 'replied', 'done', 'expired')),
  settled_at = iif(deliveries.state <> 'queued', settled_at, :at),
  read_at = iif(ended.state = 'replied', coalesce(read_at, :at), read_at)
from (
  select a.seq, a.state from jsonb_each(:seqs) as wanted cross join asks as a on a.seq = wanted.value
) as ended
where deliveries.seq = ended.seq and ended.state <> 'open'
  and (deliveries.state = 'queued' or (ended.state = 'replied' and deliveries.read_at is null))

-- name: asks_find_returned
-- Of asks whose deliveries have left their claims: those that are still open though the delivery is dead, and those that
-- have ended though it is queued again.
select json_group_array(json_array(
  d.seq, m.id, a.state, a.origin, d.origin, iif(json_valid(d.log), d.log ->> '$[#-1].reason', null)
))
from jsonb_each(:seqs) as wanted
cross join asks as a on a.seq = wanted.value
cross join deliveries as d on d.seq = a.seq
cross join messages as m on m.seq = a.seq
where d.state = iif(a.state = 'open', 'dead', 'queued')

-- name: asks_find_failed
-- Of these, those that failed.
select json_group_array(json_array(m.id, a.origin))
from jsonb_each(:seqs) as wanted
cross join asks as a on a.seq = wanted.value and a.state = 'failed'
cross join messages as m on m.seq = a.seq

-- name: asks_find_next
-- The first deadlines of all open asks, the next one after these, and the number up to which they were seen. See deadlines.py.
with first as materialized (
  select ask_deadline_due as due, seq from deliveries indexed by asks_open where ask_state = 'open'
  order by ask_deadline_due, seq limit :limit + 1
)
select json_object('rows', json((
  select json_group_array(json_array(due, seq)) from (select due, seq from first order by due, seq limit :limit)
)), 'beyond', (select due from first order by due, seq limit 1 offset :limit),
'seen', coalesce((select max(seq) from deliveries), 0))

-- name: asks_find_new
-- Those that were stored after this number and run out before this instant.
select json_object('rows', json((
  select json_group_array(json_array(ask_deadline_due, seq)) from deliveries not indexed
  where seq > :after and ask_state = 'open' and (:before is null or ask_deadline_due < :before)
)), 'seen', coalesce((select max(seq) from deliveries), 0))

-- name: asks_find_open
-- Of these, those that are open.
select json_group_array(seq) from deliveries where seq in (select value from jsonb_each(:seqs)) and ask_state = 'open'

-- name: asks_find_late
-- Of these, those that are still open and have run out.
select json_object('seqs', json_group_array(seq), 'origins', json_group_array(distinct ask_origin)) from deliveries
where seq in (select value from jsonb_each(:seqs)) and ask_state = 'open' and ask_deadline_due <= :now

-- name: asks_find_workers
-- Who is at work on these.
select json_group_array(distinct owner) from deliveries
where seq in (select value from jsonb_each(:seqs)) and state = 'claimed' and owner is not null

-- name: asks_find_of_processes
-- An ask that was made under an idempotency key stays: a repeat may join it.
select json_group_array(seq) from deliveries indexed by asks_open
where ask_state = 'open' and ask_keyed = 0 and ask_origin in (select value from jsonb_each(:processes))

-- name: asks_find_claimed
select json_group_array(seq) from deliveries indexed by deliveries_claimed
where state = 'claimed' and owner in (select value from jsonb_each(:processes)) and ask_timeout is not null

-- name: waits_remove_of_processes
delete from waits where process_id in (select value from jsonb_each(:processes))
