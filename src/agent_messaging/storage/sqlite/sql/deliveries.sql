-- Every statement answers at most one row, and rows go in as one JSON array (see engine.fetch for the reason). A cross join
-- fixes the order of the loops: from the array to the table, never a scan of the table.

-- name: append_find_stored
-- With the ask that each of them answered, which is one of the messages before it in the session; who waits for it; and
-- whether its recipient waits for an answer of its sender.
select json_group_array(json_array(m.id, d.seq, d.token, d.attempt, d.state = 'claimed' and d.owner is :owner,
  m.session_id, json((
    select json_array((select id from messages where seq = found.seq), found.origin) from (
      select asked.seq, a.origin from session_messages as asked cross join asks as a on a.seq = asked.seq
      where d.state = 'done' and d.token = 0 and asked.session_id = m.session_id and asked.seq < m.seq
        and a.answer_seq = m.seq
      order by asked.seq desc limit 1
    ) as found
  )), json((
    select json_group_array(distinct process_id) from waits
    where m.kind = 'conversation' and recipient_id = m.recipient_id and sender_id = m.sender_id
      and (thread is null or thread = d.thread) and is_ended = 0 and (until_due is null or until_due > :now)
  )), m.kind = 'conversation' and exists (
    select 1 from asks
    where asker_id = m.recipient_id and responder_id = m.sender_id and session_id = m.session_id and state = 'open'
  )))
from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join deliveries as d on d.seq = m.seq

-- name: append_find_keys
select json_group_array(json_array(wanted.key, k.fingerprint, k.message_ids))
from jsonb_each(:keys) as wanted
cross join idempotency_keys as k
  on k.sender_id = wanted.value ->> 0 and k.call = wanted.value ->> 1 and k.key = wanted.value ->> 2

-- name: append_count_open
-- And the processes that may add to them.
select json_array(json_group_object(wanted.value, (
  select count(*) from deliveries where recipient_id = wanted.value and state = 'queued' and run_due = 0
) + (
  select count(*) from deliveries where recipient_id = wanted.value and state = 'queued' and run_due > 0
) + (
  select count(*) from deliveries where recipient_id = wanted.value and state = 'claimed'
)), (select count(*) from processes where ended_at is null))
from jsonb_each(:ids) as wanted

-- name: append_look
-- :rows are deliveries (recipient, kind, sender, thread, 1 if it is to be claimed, the message in whose run it is made). It
-- answers first those that cannot be claimed: something is due in the lane, another process holds the claim of a run that does
-- not itself wait for an answer, the recipient's own code waits for the message, or the owner was taken for dead by others.
-- Then, of each conversation message, the open session, or 0 where append_find_pairs has more to say: it is made in a run, the
-- recipient waits for it or for any answer, or the sender waits for an answer in this session. Then the agents that do not
-- exist, which are none as a rule; and last the number of the next message.
with wanted as materialized (
  select key, value ->> 0 as recipient_id, value ->> 1 as kind, value ->> 2 as sender_id, value ->> 3 as thread,
    value ->> 4 as claims, value ->> 5 as within, value ->> 1 = 'conversation' as talks,
    (value ->> 2) || (value ->> 3) as lane
  from jsonb_each(:rows)
)
select json_array(
  json_group_array(w.key) filter (where w.claims and (exists (
    select 1 from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane = w.lane
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
  ) or exists (
    select 1 from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane = w.lane and state = 'claimed' and owner is not :owner
      and not exists (select 1 from waiting_runs where within = deliveries.seq)
  ) or (w.talks and exists (
    select 1 from waits
    where recipient_id = w.recipient_id and sender_id = w.sender_id
      and (thread is null or thread = w.thread) and is_ended = 0 and (until_due is null or until_due > :now)
  )) or exists (select 1 from processes where id = :owner and ended_at is not null))),
  json_group_array(iif(w.within is null and not exists (
    select 1 from asks where asker_id = w.recipient_id and state = 'open'
  ) and not exists (
    select 1 from asks
    where asker_id = w.sender_id and responder_id = w.recipient_id and session_id = s.id and state = 'open'
  ) and not exists (
    select 1 from waits
    where recipient_id = w.recipient_id and sender_id = w.sender_id
      and (thread is null or thread = w.thread) and is_ended = 0 and (until_due is null or until_due > :now)
  ), s.id, 0)) filter (where w.talks),
  json_group_array(w.recipient_id) filter (where not exists (select 1 from agents where id = w.recipient_id)),
  json_group_array(w.sender_id) filter (where not exists (select 1 from agents where id = w.sender_id)),
  (select seq from next_message)
)
from wanted as w left join sessions as s
  on s.agent_a_id = iif(w.talks, min(w.recipient_id, w.sender_id), null)
  and s.agent_b_id = max(w.recipient_id, w.sender_id) and s.thread = w.thread and s.ended_at is null

-- name: append_insert_messages
-- Numbered from :first on. The topic is left out but for publications.
insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, topic, created_at)
select :first + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
  value ->> 8, :at
from jsonb_each(:rows)

-- name: append_insert_deliveries
-- :rows are (numbers of the first and the last message whose deliveries are alike, max_attempts, when the claim ends with which
-- they are born, microseconds until they are due, microseconds until they expire, the ask's timeout, how they are born, thread);
-- the last ones are left out as a rule. They are born as duties (null), as done (0), or as done and read (1). The limit has
-- SQLite read each value of a row once, and not wherever it is used, which took a third of the statement's time.
insert into deliveries (seq, recipient_id, kind, sender_id, session_id, max_attempts, owner, claim_until_due, token, attempt,
  claimed_at, run_due, run_at, queued_due, expires_due, expires_at, ask_timeout, state, settled_at, read_at, thread, origin)
select m.seq, m.recipient_id, m.kind, m.sender_id, m.session_id, max_attempts, iif(until is null, null, :owner), until,
  until is not null, until is not null, iif(until is null, null, :at), coalesce(:now + wait, 0), :at + wait,
  :now + coalesce(wait, 0), :now + expiry, :at + expiry, ask_timeout,
  iif(until is not null, 'claimed', iif(born is null, 'queued', 'done')), iif(born is null, null, :at), iif(born, :at, null),
  coalesce(new.thread, ''), :owner
from (
  select value ->> 0 as first, value ->> 1 as last, value ->> 2 as max_attempts, value ->> 3 as until, value ->> 4 as wait,
    value ->> 5 as expiry, value ->> 6 as ask_timeout, value ->> 7 as born, value ->> 8 as thread
  from jsonb_each(:rows) limit -1
) as new cross join messages as m on m.seq between new.first and new.last

-- name: append_insert_asks
-- The same where some are asks, whose rows go on with: within, taken_within, keyed, timeout in microseconds, and the seq of the
-- answer if a later group of the call has answered it already.
insert into deliveries (seq, recipient_id, kind, sender_id, session_id, max_attempts, owner, claim_until_due, token, attempt,
  claimed_at, run_due, run_at, queued_due, expires_due, expires_at, ask_timeout, state, settled_at, read_at, thread, origin,
  ask_state, ask_within, ask_taken_within, ask_keyed, ask_origin, ask_deadline_due, ask_deadline_at, ask_answer_seq,
  ask_ended_at)
select m.seq, m.recipient_id, m.kind, m.sender_id, m.session_id, max_attempts, iif(until is null, null, :owner), until,
  until is not null, until is not null, iif(until is null, null, :at), coalesce(:now + wait, 0), :at + wait,
  :now + coalesce(wait, 0), :now + expiry, :at + expiry, ask_timeout,
  iif(until is not null, 'claimed', iif(born is null, 'queued', 'done')), iif(born is null, null, :at), iif(born, :at, null),
  coalesce(new.thread, ''), :owner, iif(keyed is null, null, iif(answer is null, 'open', 'replied')), within, taken, keyed,
  iif(keyed is null, null, :owner), :now + timeout, :at + timeout, answer, iif(answer is null, null, :at)
from (
  select value ->> 0 as first, value ->> 1 as last, value ->> 2 as max_attempts, value ->> 3 as until, value ->> 4 as wait,
    value ->> 5 as expiry, value ->> 6 as ask_timeout, value ->> 7 as born, value ->> 8 as thread, value ->> 9 as within,
    value ->> 10 as taken, value ->> 11 as keyed, value ->> 12 as timeout, value ->> 13 as answer
  from jsonb_each(:rows) limit -1
) as new cross join messages as m on m.seq between new.first and new.last

-- name: find_next
select seq from next_message

-- name: find_filed
select max(coalesce((select filed from message_numbers), 0), 0)

-- name: file
-- See filing.py. The unread among them are counted, but for those that are on the list already, which a damaged mark leaves. The
-- mark passes no number that is still to be given, whatever was asked for.
insert into unread_counts (agent_id, kind, unread)
select recipient_id, kind, count(*) from unfiled as d
where seq <= :up_to and is_unread = 1 and not exists (
  select 1 from lists as l cross join listed as e on e.list = l.number and e.seq = d.seq
  where l.owner_id = d.recipient_id and l.name = 'unread' and l.kind = d.kind and l.sender_id = '' and l.thread = ''
)
group by recipient_id, kind
on conflict do update set unread = unread + excluded.unread;
insert into lists (owner_id, name, kind, sender_id, thread)
select distinct owner_id, name, kind, sender_id, thread from listings
where seq > coalesce((select filed from message_numbers), 0) and seq <= :up_to
on conflict do nothing;
insert into listed (list, seq)
select l.number, i.seq from listings as i
cross join lists as l on (l.owner_id, l.name, l.kind, l.sender_id, l.thread) = (i.owner_id, i.name, i.kind, i.sender_id, i.thread)
where i.seq > coalesce((select filed from message_numbers), 0) and i.seq <= :up_to
order by 1, 2
on conflict do nothing;
insert into message_numbers (is_one, filed) values (1, min(:up_to, (select seq - 1 from next_message)))
on conflict do update set filed = max(filed, excluded.filed)

-- name: append_insert_keys
insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value -> 4, :at from jsonb_each(:rows)

-- name: claim_lanes
-- Walks from lane to lane by seeking in deliveries_ready, so that the backlog of a lane costs nothing; behind the last lane
-- it begins again, up to after_lane. Each step looks at one lane's head: `free` says whether it may be claimed. A walk
-- ends when it has found what was asked for. `closed`: no (further) suspect may be taken for this recipient. A run that
-- waits for an answer itself does not hold its lane; the recipient's own code does, where it waits for the message. Who was
-- taken for dead by others begins none.
with recursive walk (req, recipient_id, kind, asked, after, origin, found, wrapped, lane, seq, suspect, closed, free) as (
  select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, 0, 0, coalesce(value ->> 4, ''), 0, 0,
    value ->> 6 or exists (
      select 1 from deliveries where recipient_id = value ->> 1 and state = 'claimed' and suspect = 1
    ), 0
  from jsonb_each(:requests)
  where not exists (select 1 from processes where id = :owner and ended_at is not null)
  union all
  select w.req, w.recipient_id, w.kind, w.asked, w.after, w.origin, w.found + w.free,
    w.after is not null and head.lane <= w.after,
    head.lane, head.seq, head.suspect, w.closed or (w.free and w.suspect),
    (w.origin is null or head.origin is w.origin)
    and not (head.suspect and (w.closed or (w.free and w.suspect)))
    and not exists (
      select 1 from deliveries
      where recipient_id = w.recipient_id and kind = w.kind and lane = head.lane and state = 'claimed'
        and not exists (select 1 from waiting_runs where within = deliveries.seq)
    )
    and not (w.kind = 'conversation' and exists (
      select 1 from waits
      where recipient_id = w.recipient_id and sender_id = head.sender_id
        and (thread is null or thread = head.thread) and is_ended = 0 and (until_due is null or until_due > :now)
    ))
  from walk as w cross join deliveries as head on head.seq = iif(w.wrapped, (
    select seq from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane > w.lane and lane <= w.after
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
    order by lane, seq limit 1
  ), coalesce((
    select seq from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane > w.lane
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
    order by lane, seq limit 1
  ), (
    select seq from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane <= w.after
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
    order by lane, seq limit 1
  )))
  where w.found + w.free < w.asked
)
select json_group_array(json_array(c.req, d.suspect, d.seq, d.token, d.attempt, d.max_attempts, d.origin, d.recipient_id,
  d.kind, d.sender_id, m.id, m.content, m.metadata, m.checksum, m.created_at, m.session_id, m.topic,
  json((
    select json_array(meeting_id, number) from turns
    where d.kind = 'turn' and meeting_id = m.meeting_id and ended_at is null and delivery_seq = d.seq
  )), d.ask_timeout is not null and exists (select 1 from streams where ask_id = m.id), d.ask_timeout, d.thread))
from (select req, seq from walk where free order by req, found) as c
cross join deliveries as d on d.seq = c.seq
cross join messages as m on m.seq = c.seq

-- name: claim_any
-- The same walk over the lanes; then from each of them as many as were asked for, and one suspect, in turns. :most is the
-- greatest number asked for (a LIMIT takes no column). A lane that is not `free` takes no number.
with recursive walk (req, recipient_id, kind, asked, after, origin, number, wrapped, lane, free) as (
  select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, 1, 0, coalesce(value ->> 4, ''), 0
  from jsonb_each(:requests)
  where not exists (select 1 from processes where id = :owner and ended_at is not null)
  union all
  select w.req, w.recipient_id, w.kind, w.asked, w.after, w.origin, w.number + w.free,
    w.after is not null and head.lane <= w.after, head.lane,
    not (w.kind = 'conversation' and exists (
      select 1 from waits
      where recipient_id = w.recipient_id and sender_id = head.sender_id
        and (thread is null or thread = head.thread) and is_ended = 0 and (until_due is null or until_due > :now)
    ))
  from walk as w cross join deliveries as head on head.seq = iif(w.wrapped, (
    select seq from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane > w.lane and lane <= w.after
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
      and (w.origin is null or origin is w.origin)
    order by lane, seq limit 1
  ), coalesce((
    select seq from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane > w.lane
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
      and (w.origin is null or origin is w.origin)
    order by lane, seq limit 1
  ), (
    select seq from deliveries
    where recipient_id = w.recipient_id and kind = w.kind and lane <= w.after
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
      and (w.origin is null or origin is w.origin)
    order by lane, seq limit 1
  )))
  where w.number + w.free <= w.asked + 1
),
candidate as (
  select w.req, w.number, row_number() over (partition by w.req, w.number order by d.seq) as round, d.seq
  from walk as w cross join deliveries as d on d.seq in (
    select seq from (
      select seq from deliveries
      where recipient_id = w.recipient_id and kind = w.kind and lane = w.lane
        and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
        and suspect = 0 and (w.origin is null or origin is w.origin)
      order by seq limit :most
    )
    union all
    select seq from (
      select seq from deliveries
      where recipient_id = w.recipient_id and kind = w.kind and lane = w.lane
        and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
        and suspect = 1 and (w.origin is null or origin is w.origin)
        and not exists (
          select 1 from deliveries where recipient_id = w.recipient_id and state = 'claimed' and suspect = 1
        )
      order by seq limit 1
    )
  )
  where w.free
)
select json_group_array(json_array(c.req, d.suspect, d.seq, d.token, d.attempt, d.max_attempts, d.origin, d.recipient_id,
  d.kind, d.sender_id, m.id, m.content, m.metadata, m.checksum, m.created_at, m.session_id, m.topic,
  json((
    select json_array(meeting_id, number) from turns
    where d.kind = 'turn' and meeting_id = m.meeting_id and ended_at is null and delivery_seq = d.seq
  )), d.ask_timeout is not null and exists (select 1 from streams where ask_id = m.id), d.ask_timeout, d.thread))
from (select req, seq from candidate order by req, round, number) as c
cross join deliveries as d on d.seq = c.seq
cross join messages as m on m.seq = c.seq

-- name: claim_take
-- A damaged number does not rise past what all readers take; it would refuse all rows of the statement.
update deliveries set state = 'claimed', token = min(token + 1, 9007199254740991),
  attempt = min(attempt + 1, 9007199254740991), owner = :owner, claimed_at = :at, claim_until_due = taken.until
from (select value ->> 0 as seq, value ->> 1 as until from jsonb_each(:rows)) as taken
where deliveries.seq = taken.seq

-- name: settle_find
-- :rows are (seq, id of the answer if there is one). With the event by which the newest claim ended, if it left one: to redrive
-- is no end of a claim. With an answer, and only then: the message, the thread, the ask, and, unless the answer will end it,
-- whether the answer is stored already, and who waits for it. Beside all of them the number of the next message, where there
-- are answers.
select json_array(iif(:answers, (select seq from next_message), 0), json_group_array(json_array(
  d.seq, d.state, d.token, d.origin, iif(d.log is null, null, (
  select e.value ->> 'event' from json_each(iif(json_valid(d.log), d.log, '[]')) as e
  where iif(e.type = 'object', e.value ->> 'token' = d.token and e.value ->> 'event' <> 'redriven', 0)
  order by e.key desc limit 1
)), d.ask_timeout is not null, m.id, d.thread, d.ask_state, d.ask_origin, d.ask_answer_seq,
  iif(d.state = 'claimed' and d.ask_state = 'open', null, (select seq from messages where id = wanted.value ->> 1)),
  iif(m.id is null or (d.state = 'claimed' and d.ask_state = 'open'), null, json((
    select json_group_array(process_id) from waits
    where recipient_id = d.sender_id and sender_id = d.recipient_id and (thread is null or thread = d.thread)
      and is_ended = 0 and (until_due is null or until_due > :now)
  ))))))
from jsonb_each(:rows) as wanted cross join deliveries as d on d.seq = wanted.value ->> 0
left join messages as m on m.seq = iif(wanted.value ->> 1 is null, null, d.seq)

-- name: settle_insert_answers
-- Numbered from :first on. :rows are (id, seq of the delivery that it answers, content, checksum).
insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, checksum, created_at)
select :first + new.key, new.value ->> 0, d.kind, d.recipient_id, d.sender_id, d.session_id, new.value ->> 2, new.value ->> 3, :at
from jsonb_each(:rows) as new cross join deliveries as d on d.seq = new.value ->> 1

-- name: settle
-- :rows are (numbers of the first and the last delivery that end alike, state, 1 if they are asks that their runs answer, and so
-- have read, by how much the number of the answer is greater if that ends the ask, 1 to take back the attempt, microseconds until
-- they are due again, event, reason); those from the fourth on are left out as a rule. Where none was read this one says nothing
-- of reading: a statement that does runs a trigger for each row, which counts the unread.
update deliveries set
  state = moved.state,
  attempt = max(attempt - coalesce(moved.uncounted, 0), 0),
  suspect = 0,
  run_due = coalesce(:now + moved.delay, 0),
  run_at = :at + moved.delay,
  queued_due = :now + coalesce(moved.delay, 0),
  claim_until_due = null,
  settled_at = iif(moved.state = 'queued', null, :at),
  log = iif(moved.event is null, log, json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at,
    'event', moved.event, 'attempt', attempt, 'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', moved.reason)))
from (
  select value ->> 0 as first, value ->> 1 as last, value ->> 2 as state, value ->> 5 as uncounted, value ->> 6 as delay,
    value ->> 7 as event, value ->> 8 as reason
  from jsonb_each(:rows) limit -1
) as moved
where deliveries.seq between moved.first and moved.last

-- name: settle_read
-- The same where some were read, or end their asks.
update deliveries set
  state = moved.state,
  attempt = max(attempt - coalesce(moved.uncounted, 0), 0),
  suspect = 0,
  run_due = coalesce(:now + moved.delay, 0),
  run_at = :at + moved.delay,
  queued_due = :now + coalesce(moved.delay, 0),
  claim_until_due = null,
  settled_at = iif(moved.state = 'queued', null, :at),
  read_at = iif(moved.reads, coalesce(read_at, :at), read_at),
  ask_state = iif(moved.further is null, ask_state, 'replied'),
  ask_answer_seq = coalesce(deliveries.seq + moved.further, ask_answer_seq),
  ask_ended_at = iif(moved.further is null, ask_ended_at, :at),
  log = iif(moved.event is null, log, json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at,
    'event', moved.event, 'attempt', attempt, 'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', moved.reason)))
from (
  select value ->> 0 as first, value ->> 1 as last, value ->> 2 as state, value ->> 3 as reads, value ->> 4 as further,
    value ->> 5 as uncounted, value ->> 6 as delay, value ->> 7 as event, value ->> 8 as reason
  from jsonb_each(:rows) limit -1
) as moved
where deliveries.seq between moved.first and moved.last

-- name: list_claims
select json_group_array(json_array(seq, token, attempt)) from deliveries indexed by deliveries_claimed
where state = 'claimed' and owner = :owner

-- name: find_waiting
-- From pair to pair by seeking, whatever their backlogs. (A row value as bound would seek by its first column alone.)
with recursive walk (recipient_id, kind) as (
  select '', ''
  union all
  select next.recipient_id, next.kind
  from walk as w cross join deliveries as next on next.seq = coalesce((
    select seq from deliveries
    where recipient_id = w.recipient_id and kind > w.kind
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
    order by kind limit 1
  ), (
    select seq from deliveries
    where recipient_id > w.recipient_id
      and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
    order by recipient_id, kind limit 1
  ))
)
select json_group_array(json_array(recipient_id, kind)) from walk where recipient_id <> ''

-- name: advance_next
-- When the next claim ends, the next delivery expires, and the next one becomes due.
select json_array(
  (select min(claim_until_due) from deliveries indexed by deliveries_claimed where state = 'claimed'),
  (select min(expires_due) from deliveries where state = 'queued' and expires_due is not null),
  (select min(run_due) from deliveries where state = 'queued' and run_due > 0)
)

-- name: advance_release_find
select json_object('seqs', json_group_array(seq), 'asks', json_group_array(seq) filter (where ask_timeout is not null))
from (
  select seq, ask_timeout from deliveries indexed by deliveries_claimed
  where state = 'claimed' and claim_until_due <= :now limit :limit
)

-- name: advance_release
update deliveries set
  state = iif(attempt >= max_attempts, 'dead', 'queued'),
  run_due = 0,
  queued_due = :now,
  claim_until_due = null,
  settled_at = iif(attempt >= max_attempts, :at, null),
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'lost', 'attempt', attempt,
    'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', 'claim ended'))
where seq in (select value from jsonb_each(:seqs))

-- name: advance_expire_find
select json_object('seqs', json_group_array(d.seq), 'origins', json_group_array(distinct d.origin),
  'ids', json_group_array(m.id order by d.expires_due, d.seq) filter (where m.id is not null))
from (
  select seq, origin, expires_due from deliveries where state = 'queued' and expires_due <= :now
  order by expires_due, seq limit :limit
) as d left join messages as m on m.seq = d.seq

-- name: advance_expire
update deliveries set state = 'expired', settled_at = :at where seq in (select value from jsonb_each(:seqs))

-- name: advance_due
update deliveries set queued_due = run_due, run_due = 0 where seq in (
  select seq from deliveries where state = 'queued' and run_due > 0 and run_due <= :now order by run_due limit :limit
)

-- name: withdraw_find
select json_group_array(json_array(d.seq, m.id, d.ask_timeout is not null)) from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join deliveries as d on d.seq = m.seq
where d.state = 'queued'

-- name: withdraw
update deliveries set state = 'withdrawn', settled_at = :at where seq in (select value from jsonb_each(:seqs))

-- name: list_receipts
select json_group_array(json_array(m.id, d.sender_id, d.recipient_id, d.kind, d.state, d.attempt, d.max_attempts, d.token,
  m.created_at, iif(d.run_due > 0, d.run_at, null), d.expires_at, d.claimed_at, d.settled_at, d.read_at, d.owner, d.log))
from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join deliveries as d on d.seq = m.seq

-- name: list_dead
with page as materialized (
  select seq from deliveries indexed by deliveries_dead where state = 'dead' order by seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.id, d.sender_id, d.recipient_id, d.kind, m.content, m.metadata, m.checksum, d.attempt,
  m.created_at, d.settled_at, d.log, m.topic))
from page cross join deliveries as d on d.seq = page.seq cross join messages as m on m.seq = page.seq

-- name: list_dead_of
with page as materialized (
  select seq from deliveries where state = 'dead' and recipient_id = :recipient
  order by seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.id, d.sender_id, d.recipient_id, d.kind, m.content, m.metadata, m.checksum, d.attempt,
  m.created_at, d.settled_at, d.log, m.topic))
from page cross join deliveries as d on d.seq = page.seq cross join messages as m on m.seq = page.seq

-- name: redrive_find
select json_group_array(json_array(d.seq, m.id, d.recipient_id)) from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join deliveries as d on d.seq = m.seq
where d.state = 'dead' and (:recipient is null or d.recipient_id = :recipient)

-- name: redrive_find_all
select json_group_array(json_array(d.seq, m.id, d.recipient_id)) from deliveries as d cross join messages as m on m.seq = d.seq
where d.state = 'dead' and (:recipient is null or d.recipient_id = :recipient)

-- name: redrive
update deliveries set state = 'queued', attempt = 0, suspect = 0, run_due = 0, queued_due = :now, expires_due = null,
  expires_at = null, settled_at = null,
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'redriven', 'attempt', attempt,
    'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', null))
where seq in (select value from jsonb_each(:seqs))

-- name: statistics_counts
select json_group_object(state, number) from (select state, count(*) as number from deliveries group by state)

-- name: statistics_queued
-- A turn waits for its agent, which need not have a handler: its delivery tells nothing of a mailbox that nobody serves.
select json_array(queued_due, recipient_id) from deliveries indexed by deliveries_ready
where state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now) and kind <> 'turn'
order by queued_due limit 1

-- name: statistics_claimed
select json_array(min(claimed_at)) from deliveries indexed by deliveries_claimed where state = 'claimed'
