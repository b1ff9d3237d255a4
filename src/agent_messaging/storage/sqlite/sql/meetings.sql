-- Every read answers one row, a JSON array of all that it found; engine.fetch has the reason. A turn is always the array that
-- rows.turn_row reads.

-- name: create_meeting
insert into meetings (id, host_id, status, selection, turn_duration, max_attempts, max_turns, max_duration, host_speaks,
  end_when, created_at)
values (:meeting, :host, :status, :selection, :turn_duration, :max_attempts, :max_turns, :max_duration, :host_speaks,
  :end_when, :at)

-- name: create_seats
-- The host, who comes first, attends by creating.
insert into participants (id, meeting_id, agent_id, join_order, status, process_id, joined_at)
select value ->> 0, :meeting, value ->> 1, key, iif(key = 0, 'attending', 'invited'), iif(key = 0, :owner, null),
  iif(key = 0, :at, null)
from jsonb_each(:rows)

-- name: find_existing
-- The status of the meeting if it is stored already, and the agents that do not exist.
select json_array(
  (select status from meetings where id = :meeting),
  json((
    select json_group_array(wanted.value) from jsonb_each(:agents) as wanted
    where not exists (select 1 from agents where id = wanted.value)
  ))
)

-- name: act_load
-- :meetings are (meeting, speech of the act or null). Of a speech that is stored already, the number of its turn is found;
-- it is one of the newest as a rule. The last speaker is the holder of the newest turn for speaking. Agents that are gone do
-- not count, nor does a host that names the speakers.
select json_group_array(json_array(m.id, m.host_id, m.status, m.selection, m.turn_duration, m.max_attempts, m.host_speaks,
  m.end_when, m.max_turns - m.turns_taken, m.max_duration, m.deadline_due,
  json(iif(t.number is null, null, json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at, t.deadline_due,
    null, null, null, t.next_id))),
  json(iif(d.seq is null, null, json_array(d.seq, d.state, d.token, d.owner))),
  (
    select agent_id from turns as s
    where s.meeting_id = m.id and s.purpose = 'speak' and (m.selection <> 'host' or s.agent_id <> m.host_id)
      and exists (select 1 from participants where meeting_id = s.meeting_id and agent_id = s.agent_id)
    order by number desc limit 1
  ),
  json((
    select json_group_array(json_array(agent_id, join_order, status, process_id)) from (
      select agent_id, join_order, status, process_id from participants where meeting_id = m.id order by join_order
    )
  )),
  (
    select (
      select number from turns where meeting_id = m.id and message_seq = q.seq order by number desc limit 1
    )
    from messages as q where q.id = wanted.value ->> 1 and q.meeting_id = m.id
  )
))
from jsonb_each(:meetings) as wanted
cross join meetings as m on m.id = wanted.value ->> 0
left join turns as t on t.meeting_id = m.id and t.number = m.turn
left join deliveries as d on d.seq = t.delivery_seq

-- name: act_find_names
select json_group_object(a.id, a.external_id)
from jsonb_each(:agents) as wanted cross join agents as a on a.id = wanted.value

-- name: act_meeting
-- :rows are (meeting, status, number of the current turn or null, turns for speaking that end, whether it starts, its bounds
-- that are new then or null, microseconds that it has or null, why it ended or null).
update meetings set
  status = changed.status,
  turn = changed.turn,
  turns_taken = turns_taken + changed.taken,
  max_turns = coalesce(changed.max_turns, meetings.max_turns),
  max_duration = coalesce(changed.max_duration, meetings.max_duration),
  end_when = coalesce(changed.end_when, meetings.end_when),
  started_at = iif(changed.starts, :at, started_at),
  deadline_due = iif(changed.starts, :now + changed.allowed, deadline_due),
  deadline_at = iif(changed.starts, :at + changed.allowed, deadline_at),
  ended_at = iif(changed.status = 'ended', :at, ended_at),
  end_reason = coalesce(changed.reason, end_reason)
from (
  select value ->> 0 as id, value ->> 1 as status, value ->> 2 as turn, value ->> 3 as taken, value ->> 4 as starts,
    value ->> 5 as max_turns, value ->> 6 as max_duration, value ->> 7 as end_when, value ->> 8 as allowed,
    value ->> 9 as reason
  from jsonb_each(:rows)
) as changed
where meetings.id = changed.id

-- name: act_seats
-- :rows are (meeting, agent, new status, process to be woken or null to leave it). An agent that goes back to being
-- invited has not joined. One that attends still, or again after the end, joined when it first did.
update participants set
  status = changed.status,
  process_id = coalesce(changed.process_id, participants.process_id),
  joined_at = iif(changed.status = 'invited', null, iif(participants.status = 'invited' and changed.status = 'attending',
    :at, joined_at)),
  left_at = iif(changed.status = 'left', :at, left_at)
from (
  select value ->> 0 as meeting_id, value ->> 1 as agent_id, value ->> 2 as status, value ->> 3 as process_id
  from jsonb_each(:rows)
) as changed
where participants.meeting_id = changed.meeting_id and participants.agent_id = changed.agent_id

-- name: act_end_turn
-- :rows are (meeting, number, how, seq of what was said).
update turns set ended_at = :at, how = ended.how, message_seq = ended.message_seq
from (
  select value ->> 0 as meeting_id, value ->> 1 as number, value ->> 2 as how, value ->> 3 as message_seq
  from jsonb_each(:rows)
) as ended
where turns.meeting_id = ended.meeting_id and turns.number = ended.number

-- name: act_insert_turns
-- :rows are (meeting, number, agent, purpose, agent that is to follow, limit in microseconds, how if it has ended at once, seq
-- of its delivery, seq of what was said).
insert into turns (meeting_id, number, agent_id, purpose, next_id, started_at, deadline_due, deadline_at, ended_at, how,
  delivery_seq, message_seq)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, :at, :now + (value ->> 5), :at + (value ->> 5),
  iif(value ->> 6 is null, null, :at), value ->> 6, value ->> 7, value ->> 8
from jsonb_each(:rows)

-- name: act_insert_messages
-- Numbered from :first on.
insert into messages (seq, meeting_id, id, kind, message_type, sender_id, recipient_id, content, metadata, checksum, created_at)
select :first + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
  value ->> 8, :at
from jsonb_each(:rows)

-- name: act_insert_deliveries
-- :rows are (seq, recipient, kind, sender, max_attempts, seconds of the turn).
insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, ask_timeout, queued_due, origin)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'queued', value ->> 4, value ->> 5, :now, :owner
from jsonb_each(:rows)

-- name: act_insert_events
-- :rows are (meeting, type, agent, data, checksum, seq of what was said).
insert into meeting_events (meeting_id, type, agent_id, data, checksum, message_seq, created_at)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, :at from jsonb_each(:rows)

-- name: act_end_delivery
-- :rows are (meeting, seq, last state). A delivery that has ended otherwise (dead) stays as it is.
update deliveries set state = ended.state, settled_at = :at, claim_until_due = null
from (select value ->> 1 as seq, value ->> 2 as state from jsonb_each(:rows)) as ended
where deliveries.seq = ended.seq and deliveries.state in ('queued', 'claimed')

-- name: act_withdraw_invitations
-- :rows are (meeting, agent or null for all). Invitations are a meeting's first messages, at most one for each seat (:most).
update deliveries set state = 'withdrawn', settled_at = :at
where state = 'queued' and seq in (
  select m.seq from jsonb_each(:rows) as wanted
  cross join messages as m on m.seq in (
    select seq from messages where meeting_id = wanted.value ->> 0 order by seq limit :most
  )
  where m.kind = 'invitation' and (wanted.value ->> 1 is null or m.recipient_id = wanted.value ->> 1)
)

-- name: vanish_find
-- The seats of an agent, or of an organization's agents, in meetings that others host and that have not ended.
with gone as materialized (
  select id from agents where external_id = :agent
  union all
  select a.id from organizations as o cross join agents as a on a.organization_id = o.id
  where o.external_id = :organization
)
select json_group_array(json_array(meeting_id, agent_id)) from (
  select p.meeting_id, p.agent_id from gone
  cross join participants as p on p.agent_id = gone.id
  cross join meetings as m on m.id = p.meeting_id
  where p.status <> 'left' and m.status <> 'ended' and m.host_id not in (select id from gone)
  order by p.meeting_id, p.join_order
)

-- name: vanish_messages
-- The speeches of others in meetings that go with their hosts.
delete from messages where meeting_id in (
  select m.id from agents as a cross join meetings as m on m.host_id = a.id where a.external_id = :agent
  union all
  select m.id from organizations as o
  cross join agents as a on a.organization_id = o.id
  cross join meetings as m on m.host_id = a.id
  where o.external_id = :organization
)

-- name: time_out_find
select json_group_array(json_array(meeting_id, number)) from (
  select meeting_id, number from turns
  where ended_at is null and deadline_due is not null and deadline_due <= :now order by deadline_due, meeting_id limit :limit
)

-- name: time_out_forget
-- :rows are (meeting, number) of turns that are due and cannot be ended, because the rows of their meetings cannot be read or
-- contradict each other. They would be due for ever.
update turns set deadline_due = null
where ended_at is null and (meeting_id, number) in (select value ->> 0, value ->> 1 from jsonb_each(:rows))

-- name: time_out_next
select json_array(min(deadline_due)) from turns where ended_at is null and deadline_due is not null

-- name: sit_find
-- It answers whether the process is known (null: the agent has no seat), and where the agent stands.
select json_array(iif(p.agent_id is null, null, p.process_id is :owner), m.status, p.status,
  json(iif(t.number is null, null, json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at, t.deadline_due,
    null, null, null, t.next_id))))
from meetings as m
left join participants as p on p.meeting_id = m.id and p.agent_id = :agent
left join turns as t on t.meeting_id = m.id and t.number = m.turn
where m.id = :meeting

-- name: sit
update participants set process_id = :owner where meeting_id = :meeting and agent_id = :agent

-- name: find_meeting
select json_array(m.id, m.host_id, m.status, m.selection, m.turn_duration, m.created_at, m.started_at, m.ended_at,
  m.max_turns, m.max_duration, m.host_speaks, m.turns_taken, m.deadline_at, m.end_reason,
  json(iif(t.number is null, null, json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at, t.deadline_due,
    null, null, null, t.next_id))))
from meetings as m left join turns as t on t.meeting_id = m.id and t.number = m.turn
where m.id = :meeting

-- name: list_seats
select json_group_array(json_array(id, agent_id, join_order, status, joined_at, left_at)) from (
  select * from participants where meeting_id = :meeting order by join_order
)

-- name: list_meetings
-- The newest have the greatest ids. The newest of each status are sought apart, so that meetings of another status cost
-- nothing.
with page as materialized (
  select id from (
    select * from (
      select id from meetings
      where status = 'created' and :created and id < coalesce(:before, '~')
        and (:from is null or created_at >= :from) and (:to is null or created_at <= :to)
      order by id desc limit :limit + :offset
    )
    union all
    select * from (
      select id from meetings
      where status = 'ready' and :ready and id < coalesce(:before, '~')
        and (:from is null or created_at >= :from) and (:to is null or created_at <= :to)
      order by id desc limit :limit + :offset
    )
    union all
    select * from (
      select id from meetings
      where status = 'active' and :active and id < coalesce(:before, '~')
        and (:from is null or created_at >= :from) and (:to is null or created_at <= :to)
      order by id desc limit :limit + :offset
    )
    union all
    select * from (
      select id from meetings
      where status = 'ended' and :ended and id < coalesce(:before, '~')
        and (:from is null or created_at >= :from) and (:to is null or created_at <= :to)
      order by id desc limit :limit + :offset
    )
  ) order by id desc limit :limit offset :offset
)
select json_group_array(json_array(m.id, m.host_id, m.status, m.selection, m.turn_duration, m.created_at, m.started_at,
  m.ended_at, m.max_turns, m.max_duration, m.host_speaks, m.turns_taken, m.deadline_at, m.end_reason,
  json(iif(t.number is null, null, json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at,
    t.deadline_due, null, null, null, t.next_id)))))
from page cross join meetings as m on m.id = page.id left join turns as t on t.meeting_id = m.id and t.number = m.turn

-- name: list_meetings_of
-- The host of a meeting has a seat in it.
with page as materialized (
  select m.id from participants as p cross join meetings as m on m.id = p.meeting_id
  where p.agent_id = :agent and iif(m.status = 'created', :created, iif(m.status = 'ready', :ready,
    iif(m.status = 'active', :active, :ended)))
    and p.meeting_id < coalesce(:before, '~')
    and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
  order by p.meeting_id desc limit :limit offset :offset
)
select json_group_array(json_array(m.id, m.host_id, m.status, m.selection, m.turn_duration, m.created_at, m.started_at,
  m.ended_at, m.max_turns, m.max_duration, m.host_speaks, m.turns_taken, m.deadline_at, m.end_reason,
  json(iif(t.number is null, null, json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at,
    t.deadline_due, null, null, null, t.next_id)))))
from page cross join meetings as m on m.id = page.id left join turns as t on t.meeting_id = m.id and t.number = m.turn

-- name: find_standings
-- A meeting that does not exist has a row without a status. With :called only agents are listed that may speak, or never
-- will (again). Each has the :recent newest messages behind its own last speech, the newest first. That speech is known by one of
-- its last turns as a rule; otherwise it counts where it is among the newest messages. So the read is bounded, however long ago
-- the agent spoke.
select json_group_array(json_array(wanted.key, m.status, p.status,
  json(iif(t.number is null, null, json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at, t.deadline_due,
    null, null, null, t.next_id))),
  json((
    select json_group_array(json_array(seq, id, kind, sender_id, recipient_id, content, metadata, checksum, created_at, null,
      session_id, message_type))
    from (
      select * from messages
      where :recent and meeting_id = m.id and kind = 'meeting' and seq > coalesce((
        select s.message_seq from turns as s
        where s.meeting_id = m.id and s.number > m.turn - :recent and s.agent_id = p.agent_id and s.message_seq is not null
        order by s.number desc limit 1
      ), (
        select max(seq) from (
          select seq, sender_id, message_type from messages
          where meeting_id = m.id and kind = 'meeting' order by seq desc limit :recent
        )
        where sender_id = p.agent_id and message_type = 'user_defined'
      ), 0)
      order by seq desc limit :recent
    )
  ))
))
from jsonb_each(:keys) as wanted
left join meetings as m on m.id = wanted.value ->> 0
left join participants as p on p.meeting_id = m.id and p.agent_id = wanted.value ->> 1
left join turns as t on t.meeting_id = m.id and t.number = m.turn
where not :called or t.agent_id = p.agent_id and t.purpose = 'speak' or m.status is null or m.status = 'ended'
  or p.status is null or p.status = 'left'

-- name: list_meeting_messages
with page as materialized (
  select p.seq from messages as p
  where p.meeting_id = :meeting and p.kind = 'meeting'
    and p.seq > coalesce(:after, 0) and p.seq < coalesce(:before, 9223372036854775807)
    and (:from is null or p.created_at >= :from) and (:to is null or p.created_at <= :to)
    and (:types is null or p.message_type in (select value from json_each(:types)))
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n where coalesce(instr(p.metadata, n.value), 0) = 0
    ))
  order by p.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type))
from page cross join messages as m on m.seq = page.seq

-- name: list_meeting_messages_newest
with page as materialized (
  select p.seq from messages as p
  where p.meeting_id = :meeting and p.kind = 'meeting'
    and p.seq > coalesce(:after, 0) and p.seq < coalesce(:before, 9223372036854775807)
    and (:from is null or p.created_at >= :from) and (:to is null or p.created_at <= :to)
    and (:types is null or p.message_type in (select value from json_each(:types)))
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n where coalesce(instr(p.metadata, n.value), 0) = 0
    ))
  order by p.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type))
from page cross join messages as m on m.seq = page.seq

-- name: list_turns
select json_group_array(json_array(t.number, t.agent_id, t.purpose, t.started_at, t.deadline_at, t.deadline_due, t.ended_at,
  t.how, m.id, t.next_id))
from (
  select * from turns where meeting_id = :meeting and number > :after order by number limit :limit
) as t left join messages as m on m.seq = t.message_seq

-- name: list_events
with page as materialized (
  select * from meeting_events where meeting_id = :meeting and seq > :after_seq order by seq limit :limit offset :offset
)
select json_group_array(json_array(e.seq, e.meeting_id, e.type, e.agent_id, e.data, e.checksum, e.created_at,
  json(iif(m.seq is null, null, json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata,
    m.checksum, m.created_at, null, m.session_id, m.message_type)))))
from page as e left join messages as m on m.seq = e.message_seq

-- name: find_cursor
-- seq is the order of commits, because one writes at a time. It is never used again, even if the last events were removed.
select json_array(coalesce(max(seq), 0)) from meeting_events

-- name: read_events
-- It answers how many events there are, up to the limit, and the first of them. Sizes are known without reading the values.
with page as materialized (
  select seq, message_seq, octet_length(data) as size from meeting_events
  where seq > :after_seq order by seq limit :limit
), sized as materialized (
  select e.seq, sum(e.size + coalesce(octet_length(m.content), 0) + coalesce(octet_length(m.metadata), 0)) over (
    order by e.seq rows between unbounded preceding and 1 preceding
  ) as before
  from page as e left join messages as m on m.seq = e.message_seq
)
select json_array((select count(*) from page), json((
  select json_group_array(json_array(e.seq, e.meeting_id, e.type, e.agent_id, e.data, e.checksum, e.created_at,
    json(iif(m.seq is null, null, json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata,
      m.checksum, m.created_at, null, m.session_id, m.message_type)))))
  from sized as s cross join meeting_events as e on e.seq = s.seq left join messages as m on m.seq = e.message_seq
  where coalesce(s.before, 0) < :most_bytes
)))

-- name: record_event
insert into meeting_events (meeting_id, type, agent_id, data, checksum, created_at)
select id, :type, :agent, :data, :checksum, :at from meetings where id = :meeting

-- name: count_speeches
select json_group_array(json_array(sender_id, messages, first_at, last_at, length)) from (
  select sender_id, count(*) as messages, min(created_at) as first_at, max(created_at) as last_at,
    sum(length(content)) as length
  from messages
  where meeting_id = :meeting and kind = 'meeting' and message_type = 'user_defined' group by sender_id
)

-- name: count_meeting_messages
select json_array(count(*)) from messages where meeting_id = :meeting and kind = 'meeting'

-- name: meeting_statistics
select json_array(
  (select count(*) from meetings where host_id = :agent),
  (
    select count(*) from participants as p cross join meetings as m on m.id = p.meeting_id
    where p.agent_id = :agent and p.joined_at is not null and m.host_id <> :agent
  ),
  (select count(*) from meetings where host_id = :agent and status = 'active'),
  (
    select count(*) from messages
    where recipient_id is null and sender_id = :agent and kind = 'meeting' and message_type = 'user_defined'
  ),
  (
    select count(distinct meeting_id) from messages
    where recipient_id is null and sender_id = :agent and kind = 'meeting' and message_type = 'user_defined'
  ),
  (
    select avg(max(0, m.ended_at - m.started_at)) / 1e6
    from participants as p cross join meetings as m on m.id = p.meeting_id
    where p.agent_id = :agent and p.joined_at is not null and m.started_at is not null and m.ended_at is not null
  )
)
