-- Acts on meetings, what they write, and what is read of meetings. deliveries.sql tells of `seq + 0`.
--
-- A transaction that changes a meeting locks its row first, in a statement of its own, and only then reads it and draws any
-- seq. So acts come one after the other, each sees what the one before it did, and within a meeting the order of seq is the
-- order of commits, of messages and of events alike.
--
-- The order of locks in a transaction: organization, agents (by id), meetings (by id, or tried), the claimed delivery of
-- the act, deliveries (by seq), idempotency keys. The removal of an agent takes `for no key update`. That keeps out
-- transactions that would seat it in a new meeting (`for share`), and none of the acts in other meetings, which refer to
-- agents by foreign keys (`for key share`) and may hold a meeting that the removal waits for.

-- name: find_existing
-- The agents that exist, locked until the commit so that their removal sees the meeting; and whether it is stored already.
select a.id::text, exists (select from meetings m where m.id = $1::text::uuid) as is_stored
from agents a
where a.id = any($2::text[]::uuid[])
order by a.id
for share of a

-- name: create_meeting
-- The meeting, its seats ($8 to $9, the host first), and its invitations ($10 and on), in one statement.
with moment as materialized (
  select coalesce($1::timestamptz, store_now()) as now
),
created as (
  insert into meetings (
    id, host_id, status, selection, turn_duration, max_attempts, max_turns, max_duration, host_speaks, end_when, created_at
  )
  select $2::text::uuid, $3::text::uuid, $4, $5, $6::float8, $7::integer, $16::integer, $17::float8, $18::boolean,
    $19::boolean, m.now
  from moment m
),
seats as (
  insert into participants (id, meeting_id, agent_id, join_order, status, process_id, joined_at)
  select i.id, $2::text::uuid, i.agent_id, i.position - 1,
    case i.position when 1 then 'attending' else 'invited' end,
    case i.position when 1 then $15::text::uuid end,
    case i.position when 1 then m.now end
  from moment m, unnest($8::text[]::uuid[], $9::text[]::uuid[]) with ordinality as i (id, agent_id, position)
),
invitations as materialized (
  select nextval('messages_seq_seq') as seq, i.*, m.now
  from moment m,
    unnest($10::text[]::uuid[], $11::text[]::uuid[], $12::text[], $13::bigint[], $14::boolean[], $20::text[])
    with ordinality as i (id, recipient_id, content, checksum, notify, metadata, position)
),
new_messages as (
  insert into messages (
    seq, id, kind, sender_id, recipient_id, meeting_id, message_type, content, metadata, checksum, created_at
  )
  select seq, id, 'invitation', $3::text::uuid, recipient_id, $2::text::uuid, 'system', content, metadata, checksum, now
  from invitations order by position
),
new_deliveries as (
  insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, origin, queued_at)
  select seq, recipient_id, 'invitation', $3::text::uuid, 'queued', $7, $15::text::uuid, now
  from invitations order by position
)
insert into notices (seq, recipient_id, created_at)
select seq, recipient_id, now from invitations where notify order by position

-- name: act_lock
-- PostgreSQL alone: the lock is a statement of its own, so that the next one sees what the last holder committed.
select id from meetings where id = any($1::text[]::uuid[]) order by id for update

-- name: act_try_lock
-- PostgreSQL alone: it locks those of many meetings that nobody holds. From here on the transaction waits only a moment ($2,
-- milliseconds) for any other lock, which one of the acts needs and for which the others would wait with it.
select m.id::text as meeting_id, set_config('lock_timeout', $2::text, true)
from meetings m where m.id = any($1::text[]::uuid[]) order by m.id for update skip locked

-- name: act_load
-- A row for each meeting asked for, in their order, without a status where there is none. The last three are of the acts,
-- one in each meeting: whether its claim is open (locked, so that it stays so until the commit), the turn of a speech that is
-- stored already, and what its key was used for. The last speaker is the holder of the newest turn for speaking. Agents
-- that are gone do not count, nor does a host that names the speakers. What is found by its key is written so that only that
-- index fits, whatever the server believes of the tables: it would read all keys of speeches, or all messages of the meeting.
with moment as materialized (
  select coalesce($2::timestamptz, store_now()) as now
),
asked as materialized (
  select * from unnest(
    $1::text[]::uuid[], $3::bigint[], $4::integer[], $5::text[]::uuid[], $6::text[]::uuid[], $7::text[]
  ) with ordinality as u (id, claim_seq, claim_token, message_id, sender_id, key, position)
),
claim as materialized (
  -- It is written so that only the primary key fits: an index of the claimed ones would be read whole.
  select d.seq
  from (select a.claim_seq, a.claim_token from asked a where a.claim_seq is not null order by a.claim_seq) w
  cross join lateral (
    select c.seq from deliveries c
    where c.seq = w.claim_seq and c.token = w.claim_token and c.state || '' = 'claimed'
    for update
  ) d
)
select i.id::text as meeting_id, o.now, m.host_id::text, m.status, m.selection, m.turn_duration, m.max_attempts,
  m.host_speaks, m.end_when, m.max_turns - m.turns_taken as turns_left,
  m.max_duration, extract(epoch from m.deadline_at - o.now)::float8 as meeting_left,
  t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at, extract(epoch from t.deadline_at - o.now)::float8 as turn_left,
  (t.deadline_at <= o.now) is true as is_over, t.delivery_seq,
  (
    select s.agent_id::text from turns s
    where s.meeting_id = m.id and s.purpose = 'speak' and (m.selection <> 'host' or s.agent_id <> m.host_id)
      and exists (select 1 from participants p where p.meeting_id = s.meeting_id and p.agent_id = s.agent_id)
    order by s.number desc limit 1
  ) as last_speaker_id,
  (
    select json_agg(json_build_array(p.agent_id, p.join_order, p.status, p.process_id, a.external_id) order by p.join_order)
    from participants p join agents a on a.id = p.agent_id
    where p.meeting_id = m.id
  ) as seats,
  (select c.seq from claim c where c.seq = i.claim_seq) as claimed_seq,
  (
    select (
      select s.number from turns s where s.meeting_id = q.meeting_id and s.message_seq = q.seq order by s.number desc limit 1
    )
    from messages q where q.id = i.message_id and (q.meeting_id = m.id) is true
  ) as said_in,
  k.fingerprint, k.message_ids::text[] as message_ids
from moment o
cross join asked i
left join meetings m on m.id = i.id
left join turns t on t.meeting_id = m.id and t.number = m.turn
left join lateral (
  select u.fingerprint, u.message_ids from idempotency_keys u
  where u.sender_id = i.sender_id and u.call = 'speak' and u.key = i.key
  offset 0
) k on true
order by i.position

-- name: act_write
-- PostgreSQL alone: one statement writes all that acts change, each in a meeting of its own. $1 is the instant at which they
-- were judged. Messages are named by their positions in $30 and on, which begin at 1.
with seqs as materialized (
  select array_agg(i.seq order by i.position) as seq from (
    select nextval('messages_seq_seq') as seq, u.position from unnest($31::text[]) with ordinality as u (id, position)
  ) i
),
changed as (
  update meetings m set
    status = i.status,
    turn = i.turn,
    turns_taken = m.turns_taken + i.taken,
    max_turns = coalesce(i.max_turns, m.max_turns),
    max_duration = coalesce(i.max_duration, m.max_duration),
    end_when = coalesce(i.end_when, m.end_when),
    started_at = case when i.starts then $1::timestamptz else m.started_at end,
    deadline_at = case when i.starts then i.deadline_at else m.deadline_at end,
    ended_at = case i.status when 'ended' then $1 else m.ended_at end,
    end_reason = coalesce(i.reason, m.end_reason)
  from unnest(
    $3::text[]::uuid[], $4::text[], $5::integer[], $6::integer[], $7::boolean[], $8::integer[], $9::float8[],
    $10::boolean[], $11::timestamptz[], $12::text[]
  ) as i (id, status, turn, taken, starts, max_turns, max_duration, end_when, deadline_at, reason)
  where m.id = i.id and (m.status, m.turn) is distinct from (i.status, i.turn)
),
seated as (
  -- An agent that goes back to being invited has not joined. One that attends again after the end joined when it first did.
  update participants p set
    status = i.status,
    process_id = coalesce(i.process_id, p.process_id),
    joined_at = case
      when i.status = 'invited' then null
      when p.status = 'invited' and i.status = 'attending' then $1
      else p.joined_at
    end,
    left_at = case i.status when 'left' then $1 else p.left_at end
  from unnest($13::text[]::uuid[], $14::text[]::uuid[], $15::text[], $16::text[]::uuid[])
    as i (meeting_id, agent_id, status, process_id)
  where p.meeting_id = i.meeting_id and p.agent_id = i.agent_id
  returning p.meeting_id, p.agent_id, p.process_id
),
ended as (
  update turns t set ended_at = $1, how = i.how, message_seq = s.seq[i.message]
  from unnest($17::text[]::uuid[], $18::integer[], $19::text[], $20::integer[]) as i (meeting_id, number, how, message), seqs s
  where t.meeting_id = i.meeting_id and t.number = i.number
  returning t.number
),
begun as (
  -- A turn begins when all that end have ended, because one turn of a meeting is current at a time.
  insert into turns (
    meeting_id, number, agent_id, purpose, next_id, started_at, deadline_at, ended_at, how, delivery_seq, message_seq
  )
  select i.meeting_id, i.number, i.agent_id, i.purpose, i.next_id, $1, i.deadline_at,
    case when i.how is not null then $1 end, i.how, s.seq[i.delivery], s.seq[i.message]
  from unnest(
    $21::text[]::uuid[], $22::integer[], $23::text[]::uuid[], $24::text[], $25::text[]::uuid[], $26::timestamptz[],
    $27::text[], $28::integer[], $29::integer[]
  ) as i (meeting_id, number, agent_id, purpose, next_id, deadline_at, how, delivery, message),
    seqs s, (select count(*) from ended) before
),
input as materialized (
  select s.seq[i.position] as seq, i.*
  from unnest(
    $30::text[]::uuid[], $31::text[]::uuid[], $32::text[], $33::text[], $34::text[]::uuid[], $35::text[]::uuid[],
    $36::text[], $37::text[], $38::bigint[], $39::integer[], $40::float8[]
  ) with ordinality as i (
    meeting_id, id, kind, message_type, sender_id, recipient_id, content, metadata, checksum, max_attempts, ask_timeout,
    position
  ), seqs s
),
new_messages as (
  insert into messages (
    seq, id, kind, sender_id, recipient_id, meeting_id, message_type, content, metadata, checksum, created_at
  )
  select seq, id, kind, sender_id, recipient_id, meeting_id, message_type, content, metadata, checksum, $1
  from input order by position
),
new_deliveries as (
  insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, origin, queued_at, ask_timeout)
  select seq, recipient_id, kind, sender_id, 'queued', max_attempts, $2::text::uuid, $1, ask_timeout
  from input where recipient_id is not null order by position
),
new_events as (
  insert into meeting_events (seq, meeting_id, type, agent_id, data, checksum, message_seq, created_at)
  select i.seq, i.meeting_id, i.type, i.agent_id, i.data, i.checksum, i.message_seq, $1
  from (
    select nextval('meeting_events_seq_seq') as seq, e.meeting_id, e.type, e.agent_id, e.data, e.checksum,
      s.seq[e.message] as message_seq, e.position
    from unnest($41::text[]::uuid[], $42::text[], $43::text[]::uuid[], $44::text[], $45::bigint[], $46::integer[])
      with ordinality as e (meeting_id, type, agent_id, data, checksum, message, position), seqs s
  ) i
  order by i.position
),
closing as materialized (
  -- The deliveries of the turns that end, unless they have ended themselves (dead), and invitations that nobody has taken
  -- up. Invitations are the first messages of a meeting, at most one for each seat. The deliveries are locked one by one in
  -- the order of seq; a join of the two could be planned to read all deliveries.
  select w.meeting_id, w.becomes, d.seq, d.state, d.owner
  from (
    select o.* from (
      select i.meeting_id, i.seq, i.becomes, true as is_turn
      from unnest($47::text[]::uuid[], $48::bigint[], $49::text[]) as i (meeting_id, seq, becomes)
      union all
      select i.meeting_id, q.seq, 'withdrawn', false
      from unnest($50::text[]::uuid[], $51::text[]::uuid[]) as i (meeting_id, recipient_id)
      cross join lateral (
        select m.seq, m.kind, m.recipient_id from messages m
        where m.meeting_id = i.meeting_id
        order by m.seq + 0 limit (select count(*) from participants p where p.meeting_id = i.meeting_id)
      ) q
      where q.kind = 'invitation' and (i.recipient_id is null or q.recipient_id = i.recipient_id)
    ) o
    order by o.seq
  ) w
  cross join lateral (
    select c.seq, c.state, c.owner from deliveries c
    where c.seq = w.seq and (c.state || '' = 'queued' or c.state || '' = 'claimed' and w.is_turn)
    for update
  ) d
),
closed as (
  update deliveries d set state = c.becomes, settled_at = $1, claim_until = null, suspect = false
  from closing c where d.seq = c.seq
),
keyed as (
  -- It waits for a key that another transaction is about to store, which is then missing from the answer. The keys have one
  -- order, so that two transactions do not wait for each other.
  insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
  select i.sender_id, 'speak', i.key, i.fingerprint, array[i.message_id], $1
  from unnest($52::text[]::uuid[], $53::text[], $54::text[], $55::text[]::uuid[])
    as i (sender_id, key, fingerprint, message_id)
  order by i.sender_id, i.key
  on conflict do nothing
  returning 1
)
select s.meeting_id::text, s.agent_id::text, s.process_id::text, false as is_keyed from seated s
union all
select c.meeting_id::text, null, c.owner::text, false from closing c where c.state = 'claimed' and c.becomes = 'withdrawn'
union all
select null, null, null, true from keyed

-- name: time_out_find
-- It locks the meetings that nobody holds. The holder of another one is changing its turn, or ending it by time; the next
-- statement sees what that did.
select m.id::text as meeting_id, t.number
from turns t join meetings m on m.id = t.meeting_id
where t.ended_at is null and t.deadline_at is not null and t.deadline_at <= (select coalesce($1::timestamptz, store_now()))
order by t.deadline_at, t.meeting_id limit $2::integer
for update of m skip locked

-- name: time_out_forget
-- Turns that are due and cannot be ended, because the rows of their meetings cannot be read or contradict each other. They
-- would be due for ever.
update turns t set deadline_at = null
from unnest($1::text[]::uuid[], $2::integer[]) as l (meeting_id, number)
where t.meeting_id = l.meeting_id and t.number = l.number and t.ended_at is null

-- name: time_out_next
select extract(epoch from min(t.deadline_at) - coalesce($1::timestamptz, store_now()))::float8 as next_in
from turns t where t.ended_at is null and t.deadline_at is not null

-- name: vanish_find
-- All meetings with a seat of these agents, those that they host included, in one order. Those that have ended are among
-- them, so that two removals never delete the same rows in different orders.
select m.id::text as meeting_id, m.host_id::text, m.status
from meetings m
where m.id = any(array(select p.meeting_id from participants p where p.agent_id = any($1::text[]::uuid[])))
order by m.id
for update of m

-- name: vanish_messages
-- The speeches of others in meetings that go with their hosts.
delete from messages where meeting_id = any($1::text[]::uuid[])

-- name: sit_find
-- It answers whether each process is known (null: the agent has no seat), and where the agent stands.
select case when p.agent_id is not null then (p.process_id = i.owner) is true end as is_known,
  m.status, p.status as seat,
  t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at, extract(epoch from t.deadline_at - store_now())::float8 as turn_left
from unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[]::uuid[])
  with ordinality as i (meeting_id, agent_id, owner, position)
left join meetings m on m.id = i.meeting_id
left join participants p on p.meeting_id = m.id and p.agent_id = i.agent_id
left join turns t on t.meeting_id = m.id and t.number = m.turn
order by i.position

-- name: sit
update participants set process_id = $3::text::uuid where meeting_id = $1::text::uuid and agent_id = $2::text::uuid

-- name: find_meeting
-- `offset 0` keeps the server from reading all turns of the meeting in search of the current one.
select m.id::text as meeting_id, m.host_id::text, m.status, m.selection, m.turn_duration, m.created_at, m.started_at, m.ended_at,
  m.max_turns, m.max_duration, m.host_speaks, m.turns_taken, m.deadline_at, m.end_reason,
  t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at, extract(epoch from t.deadline_at - o.now)::float8 as turn_left
from (select coalesce($2::timestamptz, store_now()) as now) o
cross join meetings m
left join lateral (select * from turns u where u.meeting_id = m.id and u.number = m.turn offset 0) t on true
where m.id = $1::text::uuid

-- name: list_seats
select id::text as seat_id, agent_id::text, join_order, status, joined_at, left_at
from participants where meeting_id = $1::text::uuid order by join_order

-- name: list_meetings
-- The newest have the greatest ids. The newest of each status are sought apart, so that meetings of another status cost
-- nothing. The status is written as a bound, for the reason that list_meetings_of gives.
select m.id::text as meeting_id, m.host_id::text, m.status, m.selection, m.turn_duration, m.created_at, m.started_at, m.ended_at,
  m.max_turns, m.max_duration, m.host_speaks, m.turns_taken, m.deadline_at, m.end_reason,
  t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at, extract(epoch from t.deadline_at - store_now())::float8 as turn_left
from (
  select o.* from unnest($1::text[]) as s (status)
  cross join lateral (
    select * from meetings i
    where (i.status, i.id) < (s.status, coalesce($6::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid)
      and i.status >= s.status
      and ($4::timestamptz is null or i.created_at >= $4) and ($5::timestamptz is null or i.created_at <= $5)
    order by i.status desc, i.id desc limit $2::bigint + $3::bigint
  ) o
  order by o.id desc limit $2 offset $3
) m
left join turns t on t.meeting_id = m.id and t.number = m.turn
order by m.id desc

-- name: list_meetings_of
-- The host of a meeting has a seat in it. If the server believes that the agent has a seat in most meetings, any index in the
-- order of meetings seems as good to it as the agent's own. So the agent is written as a bound, and its seats are walked in an
-- order that only participants_of_agent has; `offset 0` leads from each seat to its meeting, and not the other way round.
select m.id::text as meeting_id, m.host_id::text, m.status, m.selection, m.turn_duration, m.created_at, m.started_at, m.ended_at,
  m.max_turns, m.max_duration, m.host_speaks, m.turns_taken, m.deadline_at, m.end_reason,
  t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at, extract(epoch from t.deadline_at - store_now())::float8 as turn_left
from (
  select i.* from participants p
  cross join lateral (
    select * from meetings o
    where o.id = p.meeting_id and o.status = any($1::text[])
      and ($4::timestamptz is null or o.created_at >= $4) and ($5::timestamptz is null or o.created_at <= $5)
    offset 0
  ) i
  where (p.agent_id, p.meeting_id) < ($7::text::uuid, coalesce($6::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid)
    and p.agent_id >= $7::text::uuid
  order by p.agent_id desc, p.meeting_id desc limit $2::bigint offset $3::bigint
) m
left join turns t on t.meeting_id = m.id and t.number = m.turn
order by m.id desc

-- name: find_standings
-- An agent that is null stands nowhere, so the meeting alone can be looked up. With $4 only agents are listed that may speak,
-- or never will (again). Each has a row for every one of the $5 newest messages behind its own last speech, and one row at
-- least. That speech is known by one of its last turns as a rule; otherwise it counts where it is among the newest messages. So
-- the read is bounded, however long ago the agent spoke.
select i.meeting_id, i.agent_id, m.status, p.status as seat,
  t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at, extract(epoch from t.deadline_at - o.now)::float8 as turn_left, q.*
from (select coalesce($3::timestamptz, store_now()) as now) o
cross join unnest($1::text[], $2::text[]) with ordinality as i (meeting_id, agent_id, position)
left join meetings m on m.id = i.meeting_id::uuid
left join participants p on p.meeting_id = m.id and p.agent_id = i.agent_id::uuid
left join turns t on t.meeting_id = m.id and t.number = m.turn
left join lateral (
  select o.seq, o.id::text as message_id, o.kind, o.sender_id::text, o.recipient_id::text, o.content, o.metadata, o.checksum,
    o.created_at, null::timestamptz as read_at, o.session_id::text, o.message_type
  from messages o
  where $5::bigint > 0 and o.meeting_id = m.id and o.kind = 'meeting' and o.seq + 0 > coalesce((
    select s.message_seq from turns s
    where s.meeting_id = m.id and s.number > m.turn - $5 and s.agent_id = p.agent_id and s.message_seq is not null
    order by s.number desc limit 1
  ), (
    select max(n.seq) from (
      select l.seq, l.sender_id, l.message_type from messages l
      where l.meeting_id = m.id and l.kind = 'meeting' order by l.seq + 0 desc limit $5
    ) n
    where n.sender_id = p.agent_id and n.message_type = 'user_defined'
  ), 0)
  order by o.seq + 0 desc limit $5
) q on true
where not $4::boolean or t.agent_id = p.agent_id and t.purpose = 'speak' or m.status is null or m.status = 'ended'
  or p.status is null or p.status = 'left'
order by i.position, q.seq

-- name: list_meeting_messages
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, null::timestamptz as read_at, m.session_id::text, m.message_type
from messages m
where m.meeting_id = $1::text::uuid and m.kind = 'meeting'
  and m.seq + 0 > coalesce($4::bigint, 0) and m.seq + 0 < coalesce($5::bigint, 9223372036854775807)
  and ($6::timestamptz is null or m.created_at >= $6) and ($7::timestamptz is null or m.created_at <= $7)
  and ($8::text[] is null or m.message_type = any($8::text[]))
  and ($9::text[] is null or not exists (
    select from unnest($9::text[]) n (needle) where coalesce(strpos(m.metadata, n.needle), 0) = 0
  ))
order by m.seq + 0 limit $2::bigint offset $3::bigint

-- name: list_meeting_messages_newest
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, null::timestamptz as read_at, m.session_id::text, m.message_type
from messages m
where m.meeting_id = $1::text::uuid and m.kind = 'meeting'
  and m.seq + 0 > coalesce($4::bigint, 0) and m.seq + 0 < coalesce($5::bigint, 9223372036854775807)
  and ($6::timestamptz is null or m.created_at >= $6) and ($7::timestamptz is null or m.created_at <= $7)
  and ($8::text[] is null or m.message_type = any($8::text[]))
  and ($9::text[] is null or not exists (
    select from unnest($9::text[]) n (needle) where coalesce(strpos(m.metadata, n.needle), 0) = 0
  ))
order by m.seq + 0 desc limit $2::bigint offset $3::bigint

-- name: list_turns
select t.number as turn_number, t.agent_id::text as turn_agent_id, t.purpose as turn_purpose,
  t.next_id::text as turn_next_id, t.started_at as turn_started_at,
  t.deadline_at as turn_deadline_at,
  case when t.ended_at is null then extract(epoch from t.deadline_at - store_now())::float8 end as turn_left,
  t.ended_at, t.how, m.id::text as message_id
from (
  select * from turns i where i.meeting_id = $1::text::uuid and i.number > $2::integer order by i.number limit $3::bigint
) t
left join messages m on m.seq = t.message_seq
order by t.number

-- name: list_events
select e.seq, e.meeting_id::text, e.type, e.agent_id::text, e.data, e.checksum as data_checksum, e.created_at,
  m.seq as said_seq, m.id::text as said_id, m.sender_id::text as said_by, m.content, m.metadata, m.checksum,
  m.created_at as said_at, m.message_type
from (
  select * from meeting_events i where i.meeting_id = $1::text::uuid and i.seq + 0 > $2::bigint order by i.seq + 0 limit $3::bigint
) e
left join messages m on m.seq = e.message_seq
order by e.seq

-- name: find_cursor
select pg_current_snapshot()::text as cursor

-- name: read_events
-- The events that were committed between two snapshots, $1 and $2 (null: the one of this statement), behind seq $3. The page is
-- exact, whatever is in flight: no event that commits late is missed, nothing waits for it, and none is read twice. There is
-- one row at least, which tells the snapshot.
--
-- There are at most $4, and none behind the one with which they reach $5 bytes; `found` is how many there are, up to $4. Sizes
-- are known without reading the values.
select s.until::text, e.found, e.seq, e.meeting_id::text, e.type, e.agent_id::text, e.data, e.checksum as data_checksum,
  e.created_at, m.seq as said_seq, m.id::text as said_id, m.sender_id::text as said_by, m.content, m.metadata, m.checksum,
  m.created_at as said_at, m.message_type
from (
  select $1::text::pg_snapshot as since, coalesce($2::text::pg_snapshot, pg_current_snapshot()) as until
) s
left join lateral (
  select * from (
    select p.*, count(*) over () as found,
      sum(octet_length(p.data) + coalesce(octet_length(t.content), 0) + coalesce(octet_length(t.metadata), 0)) over (
        order by p.seq rows between unbounded preceding and 1 preceding
      ) as before
    from (
      select * from meeting_events i
      where i.xid >= pg_snapshot_xmin(s.since) and i.xid < pg_snapshot_xmax(s.until)
        and not pg_visible_in_snapshot(i.xid, s.since) and pg_visible_in_snapshot(i.xid, s.until)
        and i.seq + 0 > $3::bigint
      order by i.seq + 0 limit $4::bigint
    ) p
    left join messages t on t.seq = p.message_seq
  ) w
  where coalesce(w.before, 0) < $5::bigint
) e on true
left join messages m on m.seq = e.message_seq
order by e.seq

-- name: record_event
-- The lock comes before the seq, as everywhere.
with meeting as materialized (
  select id from meetings where id = $1::text::uuid for update
)
insert into meeting_events (meeting_id, type, agent_id, data, checksum, created_at)
select m.id, $2, $3::text::uuid, $4, $5, coalesce($6::timestamptz, store_now()) from meeting m

-- name: count_speeches
select sender_id::text as agent_id, count(*) as messages, min(created_at) as first_at, max(created_at) as last_at,
  sum(char_length(content)) as length
from messages
where meeting_id = $1::text::uuid and kind = 'meeting' and message_type = 'user_defined'
group by sender_id

-- name: count_meeting_messages
select count(*) as count from messages where meeting_id = $1::text::uuid and kind = 'meeting'

-- name: meeting_statistics
select
  (select count(*) from meetings m where m.host_id = $1::text::uuid) as hosted,
  (
    select count(*) from participants p join meetings m on m.id = p.meeting_id
    where p.agent_id = $1::text::uuid and p.joined_at is not null and m.host_id <> p.agent_id
  ) as participated,
  (select count(*) from meetings m where m.host_id = $1::text::uuid and m.status = 'active') as active_hosted,
  s.messages, s.spoke_in,
  (
    select avg(greatest(extract(epoch from m.ended_at - m.started_at), 0))::float8
    from participants p join meetings m on m.id = p.meeting_id
    where p.agent_id = $1::text::uuid and p.joined_at is not null and m.started_at is not null and m.ended_at is not null
  ) as average_duration
from (
  select count(*) as messages, count(distinct q.meeting_id) as spoke_in from messages q
  where q.sender_id = $1::text::uuid and q.kind = 'meeting' and q.message_type = 'user_defined'
) s
