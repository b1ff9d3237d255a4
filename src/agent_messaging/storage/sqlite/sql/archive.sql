-- Moving: what an archive has of each table, in pages in the order of its key, and how it is put into a store.
-- storage/archive/tables.py says which columns, and what becomes of an open claim.
-- :organization null is all of them. :foreign are its meetings with agents of others, which stay out. Of what is
-- sent or asked between two organizations neither takes anything along.

-- name: read_organizations
select json_group_array(json_object('id', id, 'external_id', external_id, 'name', name, 'created_at', created_at,
  'updated_at', updated_at)) from (
  select * from organizations where id > :a and (:organization is null or id = :organization) order by id limit :limit
)

-- name: read_agents
select json_group_array(json_object('id', id, 'external_id', external_id, 'organization_id', organization_id, 'name',
  name, 'created_at', created_at, 'updated_at', updated_at)) from (
  select * from agents where id > :a and (:organization is null or organization_id = :organization) order by id limit :limit
)

-- name: read_sessions
select json_group_array(json_object('id', id, 'agent_a_id', agent_a_id, 'agent_b_id', agent_b_id, 'thread', thread,
  'session_type', session_type, 'created_at', created_at, 'ended_at', ended_at, 'ended_by', ended_by)) from (
  select * from sessions
  where id > :a and (:organization is null or (
    (select organization_id from agents where id = agent_a_id) = :organization
    and (select organization_id from agents where id = agent_b_id) = :organization
  ))
  order by id limit :limit
)

-- name: read_meetings
select json_group_array(json_object('id', id, 'host_id', host_id, 'status', status, 'selection', selection,
  'turn_duration', turn_duration, 'turn', turn, 'max_attempts', max_attempts, 'max_turns', max_turns, 'max_duration',
  max_duration, 'host_speaks', host_speaks, 'end_when', end_when, 'turns_taken', turns_taken, 'deadline_at',
  deadline_at, 'deadline_due', deadline_due, 'end_reason', end_reason, 'created_at', created_at, 'started_at',
  started_at, 'ended_at', ended_at)) from (
  select * from meetings
  where id > :a and (:organization is null or (
    (select organization_id from agents where id = host_id) = :organization
    and id not in (select value from json_each(:foreign))
  ))
  order by id limit :limit
)

-- name: read_messages
select json_group_array(json_object('seq', seq, 'id', id, 'kind', kind, 'sender_id', sender_id, 'recipient_id',
  recipient_id, 'session_id', session_id, 'meeting_id', meeting_id, 'message_type', message_type, 'topic', topic,
  'content', content, 'metadata', metadata, 'checksum', checksum, 'created_at', created_at, 'is_stray', not exists
  (select 1 from agents where id = sender_id) or (recipient_id is not null and not exists (select 1 from agents where
  id = recipient_id)))) from (
  select m.* from (
    select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
      select seq, octet_length(content) + octet_length(coalesce(metadata, '')) as size from messages as m
      where seq > :a and (:organization is null or (
      (select organization_id from agents where id = m.sender_id) = :organization
      and (m.recipient_id is null or (select organization_id from agents where id = m.recipient_id) = :organization)
      and (m.meeting_id is null or m.meeting_id not in (select value from json_each(:foreign)))
    ))
      order by seq limit :limit
    )
  ) as page cross join messages as m on m.seq = page.seq where coalesce(page.before, 0) < :most_bytes
)

-- name: read_deliveries
select json_group_array(json_object('seq', seq, 'message_id', message_id, 'thread', thread, 'state', state, 'token',
  token, 'attempt', attempt, 'max_attempts', max_attempts, 'suspect', suspect, 'origin', origin, 'owner', owner,
  'run_at', run_at, 'run_due', run_due, 'expires_at', expires_at, 'expires_due', expires_due, 'queued_due',
  queued_due, 'claimed_at', claimed_at, 'settled_at', settled_at, 'read_at', read_at, 'ask_timeout', ask_timeout,
  'log', log, 'ask_state', ask_state, 'ask_keyed', ask_keyed)) from (
  select d.*, m.id as message_id from deliveries as d cross join messages as m on m.seq = d.seq
  where d.seq > :a and (:organization is null or (
      (select organization_id from agents where id = m.sender_id) = :organization
      and (m.recipient_id is null or (select organization_id from agents where id = m.recipient_id) = :organization)
      and (m.meeting_id is null or m.meeting_id not in (select value from json_each(:foreign)))
    ))
  order by d.seq limit :limit
)

-- name: read_asks
-- The run in which it was made, or taken, is told where its message comes along: of one organization, another's may not.
select json_group_array(json_object('seq', seq, 'message_id', message_id, 'session_id', session_id, 'asker_id',
  asker_id, 'responder_id', responder_id, 'state', state, 'within_id', within_id, 'taken_within_id', iif(taken_within
  is null, null, coalesce(taken_within_id, '')), 'keyed', keyed, 'origin', origin, 'deadline_at', deadline_at,
  'deadline_due', deadline_due, 'answer_id', (select id from messages where seq = answer_seq), 'reason', reason,
  'ended_at', ended_at)) from (
  select a.*, m.id as message_id, (
      select i.id from messages as i where i.seq = a.within and (:organization is null or (
        (select organization_id from agents where id = i.sender_id) = :organization
        and (select organization_id from agents where id = i.recipient_id) = :organization
        and (i.meeting_id is null or i.meeting_id not in (select value from json_each(:foreign)))
      ))
    ) as within_id, (
      select i.id from messages as i where i.seq = a.taken_within and (:organization is null or (
        (select organization_id from agents where id = i.sender_id) = :organization
        and (select organization_id from agents where id = i.recipient_id) = :organization
        and (i.meeting_id is null or i.meeting_id not in (select value from json_each(:foreign)))
      ))
    ) as taken_within_id
  from asks as a cross join messages as m on m.seq = a.seq
  where a.seq > :a and (:organization is null or (
      (select organization_id from agents where id = m.sender_id) = :organization
      and (m.recipient_id is null or (select organization_id from agents where id = m.recipient_id) = :organization)
      and (m.meeting_id is null or m.meeting_id not in (select value from json_each(:foreign)))
    ))
  order by a.seq limit :limit
)

-- name: read_notices
select json_group_array(json_object('seq', seq, 'message_id', message_id, 'recipient_id', recipient_id, 'created_due',
  created_due)) from (
  select n.*, m.id as message_id
  from notices as n cross join messages as m on m.seq = n.seq
  where n.seq > :a and (:organization is null or (
      (select organization_id from agents where id = m.sender_id) = :organization
      and (m.recipient_id is null or (select organization_id from agents where id = m.recipient_id) = :organization)
      and (m.meeting_id is null or m.meeting_id not in (select value from json_each(:foreign)))
    ))
  order by n.seq limit :limit
)

-- name: read_hops
select json_group_array(json_object('message_id', message_id, 'number', number, 'asker_id', asker_id, 'from_id',
  from_id, 'to_id', to_id, 'kept_id', kept_id, 'stored_at', stored_at, 'forwarded_at', forwarded_at)) from (
  select * from hops
  where (message_id, number) > (:a, :b) and (:organization is null or (
    (select organization_id from agents where id = asker_id) = :organization
    and (select organization_id from agents where id = (select recipient_id from messages where id = message_id)) = :organization
  ))
  order by message_id, number limit :limit
)

-- name: read_participants
select json_group_array(json_object('id', id, 'meeting_id', meeting_id, 'agent_id', agent_id, 'join_order',
  join_order, 'status', status, 'joined_at', joined_at, 'left_at', left_at)) from (
  select * from participants
  where id > :a and (:organization is null or (
    (select organization_id from agents where id = agent_id) = :organization
    and meeting_id not in (select value from json_each(:foreign))
  ))
  order by id limit :limit
)

-- name: read_turns
select json_group_array(json_object('meeting_id', meeting_id, 'number', number, 'agent_id', agent_id, 'purpose',
  purpose, 'next_id', next_id, 'started_at', started_at, 'deadline_at', deadline_at, 'deadline_due', deadline_due,
  'ended_at', ended_at, 'how', how, 'delivery_id', (select id from messages where seq = delivery_seq), 'message_id',
  (select id from messages where seq = message_seq))) from (
  select * from turns
  where (meeting_id, number) > (:a, :b) and (:organization is null or (
    (select organization_id from agents where id = (select host_id from meetings where id = meeting_id)) = :organization
    and meeting_id not in (select value from json_each(:foreign))
  ))
  order by meeting_id, number limit :limit
)

-- name: read_meeting_events
select json_group_array(json_object('seq', seq, 'meeting_id', meeting_id, 'type', type, 'agent_id', agent_id, 'data',
  data, 'checksum', checksum, 'message_id', (select id from messages where seq = message_seq), 'created_at',
  created_at)) from (
  select e.* from (
    select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
      select seq, octet_length(data) as size from meeting_events as e
      where seq > :a and (:organization is null or (
        (select organization_id from agents where id = (select host_id from meetings where id = e.meeting_id)) = :organization
        and meeting_id not in (select value from json_each(:foreign))
      ))
      order by seq limit :limit
    )
  ) as page cross join meeting_events as e on e.seq = page.seq where coalesce(page.before, 0) < :most_bytes
)

-- name: read_subscriptions
select json_group_array(json_object('pattern', pattern, 'agent_id', agent_id, 'created_at', created_at)) from (
  select * from subscriptions
  where (pattern, agent_id) > (:a, :b)
    and (:organization is null or (select organization_id from agents where id = agent_id) = :organization)
  order by pattern, agent_id limit :limit
)

-- name: read_idempotency_keys
select json_group_array(json_object('sender_id', sender_id, 'call', call, 'key', key, 'fingerprint', fingerprint,
  'message_ids', message_ids, 'created_at', created_at)) from (
  select * from idempotency_keys
  where (sender_id, call, key) > (:a, :b, :c)
    and (:organization is null or (select organization_id from agents where id = sender_id) = :organization)
  order by sender_id, call, key limit :limit
)

-- name: read_workers
select json_group_array(json_object('id', id, 'role', role, 'capabilities', capabilities, 'capacity', capacity,
  'status', status, 'alive_until_due', alive_until_due, 'booked', booked, 'reported', reported, 'pulls', pulls,
  'metadata', metadata, 'registered_at', registered_at, 'heartbeat_at', heartbeat_at, 'idle_at', idle_at, 'assigned',
  (select count(*) from tasks where worker_id = w.id and state = 'assigned'))) from (
  select * from workers where id > :a and :organization is null order by id limit :limit
) as w

-- name: read_queue_messages
select json_group_array(json_object('seq', seq, 'agent_id', agent_id, 'message_id', message_id, 'sender_id',
  sender_id, 'type', type, 'priority', priority, 'content', content, 'metadata', metadata, 'checksum', checksum,
  'state', state, 'token', token, 'attempt', attempt, 'max_attempts', max_attempts, 'suspect', suspect, 'owner', owner, 'run_due',
  run_due, 'expires_at', expires_at, 'expires_due', expires_due, 'ended_as', ended_as, 'reason', reason, 'queued_due',
  queued_due, 'created_at', created_at, 'claimed_at', claimed_at, 'settled_at', settled_at, 'settled_due', settled_due)) from (
  select q.* from (
    select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
      select seq, octet_length(content) + octet_length(coalesce(metadata, '')) as size from queue_messages as q
      where seq > :a and :organization is null
      order by seq limit :limit
    )
  ) as page cross join queue_messages as q on q.seq = page.seq where coalesce(page.before, 0) < :most_bytes
)

-- name: read_tasks
select json_group_array(json_object('seq', seq, 'id', id, 'type', type, 'description', description, 'needs', needs,
  'priority', priority, 'content', content, 'checksum', checksum, 'message', message, 'is_assigned', is_assigned,
  'supervisor', supervisor, 'origin', origin, 'trace', trace, 'state', state, 'token', token, 'attempt', attempt, 'max_attempts',
  max_attempts, 'suspect', suspect, 'worker_id', worker_id, 'owner', owner, 'run_limit', run_limit, 'run_due',
  run_due, 'deadline_at', deadline_at, 'deadline_due', deadline_due, 'until_due', until_due, 'ended_as', ended_as,
  'reason', reason, 'result', result, 'result_checksum', result_checksum, 'fraction', fraction, 'note', note, 'log',
  log, 'queued_due', queued_due, 'created_at', created_at, 'assigned_at', assigned_at, 'settled_at', settled_at,
  'settled_due', settled_due)) from (
  select t.* from (
    select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
      select seq, octet_length(content) + octet_length(coalesce(result, '')) + octet_length(coalesce(message, '')) as size
      from tasks as t
      where seq > :a and :organization is null
      order by seq limit :limit
    )
  ) as page cross join tasks as t on t.seq = page.seq where coalesce(page.before, 0) < :most_bytes
)

-- name: read_schedules
select json_group_array(json_object('name', name, 'rule', rule, 'zone', zone, 'task', task, 'next_at', next_at,
  'next_due', next_due, 'since_due', since_due, 'fired', fired, 'fired_at', fired_at, 'created_at', created_at)) from (
  select * from schedules where name > :a and :organization is null order by name limit :limit
)

-- name: read_retention
-- How far each kind was pruned, so that who asks for what has gone is told so after the move, too; of one organization, too.
select json_group_array(json_object('kind', kind, 'newest_pruned', newest_pruned)) from (
  select * from retention where kind > :a and newest_pruned <> '' order by kind limit :limit
)

-- The rows wait in import_rows, by their positions. Those of messages get new numbers, in that order.

-- name: put_organizations
insert into organizations (id, external_id, name, created_at, updated_at)
select record ->> 'id', record ->> 'external_id', record ->> 'name', record ->> 'created_at', record ->> 'updated_at'
from import_rows where noun = 'organizations' order by position

-- name: put_agents
insert into agents (id, external_id, organization_id, name, created_at, updated_at)
select record ->> 'id', record ->> 'external_id', record ->> 'organization_id', record ->> 'name', record ->>
  'created_at', record ->> 'updated_at'
from import_rows where noun = 'agents' order by position

-- name: put_sessions
insert into sessions (id, agent_a_id, agent_b_id, thread, session_type, created_at, ended_at, ended_by)
select record ->> 'id', record ->> 'agent_a_id', record ->> 'agent_b_id', record ->> 'thread', record ->>
  'session_type', record ->> 'created_at', record ->> 'ended_at', record ->> 'ended_by'
from import_rows where noun = 'sessions' order by position

-- name: put_meetings
insert into meetings (id, host_id, status, selection, turn_duration, turn, max_attempts, max_turns, max_duration,
  host_speaks, end_when, turns_taken, deadline_at, deadline_due, end_reason, created_at, started_at, ended_at)
select record ->> 'id', record ->> 'host_id', record ->> 'status', record ->> 'selection', record ->> 'turn_duration',
  record ->> 'turn', record ->> 'max_attempts', record ->> 'max_turns', record ->> 'max_duration', record ->>
  'host_speaks', record ->> 'end_when', record ->> 'turns_taken', record ->> 'deadline_at', record ->> 'deadline_due',
  record ->> 'end_reason', record ->> 'created_at', record ->> 'started_at', record ->> 'ended_at'
from import_rows where noun = 'meetings' order by position

-- name: put_messages
insert into messages (seq, id, kind, sender_id, recipient_id, session_id, meeting_id, message_type, topic, content,
  metadata, checksum, created_at)
select (select seq from next_message) + row_number() over (order by position) - 1, record ->> 'id', record ->> 'kind',
  record ->> 'sender_id', record ->> 'recipient_id', record ->> 'session_id', record ->> 'meeting_id', record ->>
  'message_type', record ->> 'topic', record ->> 'content', record ->> 'metadata', record ->> 'checksum', record ->>
  'created_at'
from import_rows where noun = 'messages' order by position

-- name: put_deliveries
insert into deliveries (seq, thread, state, token, attempt, max_attempts, suspect, origin, owner, run_at, run_due,
  expires_at, expires_due, queued_due, claimed_at, settled_at, read_at, ask_timeout, log, recipient_id, kind,
  sender_id, session_id)
select m.seq, record ->> 'thread', record ->> 'state', record ->> 'token', record ->> 'attempt', record ->>
  'max_attempts', record ->> 'suspect', record ->> 'origin', record ->> 'owner', record ->> 'run_at', coalesce(record
  ->> 'run_due', 0), record ->> 'expires_at', record ->> 'expires_due', record ->> 'queued_due', record ->>
  'claimed_at', record ->> 'settled_at', record ->> 'read_at', record ->> 'ask_timeout', record ->> 'log',
  m.recipient_id, m.kind, m.sender_id, m.session_id
from import_rows as waiting cross join messages as m on m.id = record ->> 'message_id'
where noun = 'deliveries' order by position

-- name: put_asks
update deliveries set ask_state = new.record ->> 'state', ask_within = (select seq from messages where id = new.record ->>
  'within_id'), ask_taken_within = iif(new.record ->> 'taken_within_id' = '', 0, (select seq from messages where id =
  new.record ->> 'taken_within_id')), ask_keyed = new.record ->> 'keyed', ask_origin = new.record ->> 'origin',
  ask_deadline_at = new.record ->> 'deadline_at', ask_deadline_due = new.record ->> 'deadline_due', ask_answer_seq =
  (select seq from messages where id = new.record ->> 'answer_id'), ask_reason = new.record ->> 'reason', ask_ended_at =
  new.record ->> 'ended_at'
from (
  select m.seq, record from import_rows as waiting cross join messages as m on m.id = record ->> 'message_id'
  where noun = 'asks'
) as new
where deliveries.seq = new.seq

-- name: put_notices
insert into notices (seq, recipient_id, created_due)
select m.seq, record ->> 'recipient_id', record ->> 'created_due'
from import_rows as waiting cross join messages as m on m.id = record ->> 'message_id'
where noun = 'notices' order by position

-- name: put_hops
insert into hops (message_id, number, asker_id, from_id, to_id, kept_id, stored_at, forwarded_at, kept_seq)
select record ->> 'message_id', record ->> 'number', record ->> 'asker_id', record ->> 'from_id', record ->> 'to_id',
  record ->> 'kept_id', record ->> 'stored_at', record ->> 'forwarded_at', coalesce((select seq from messages where id
  = record ->> 'kept_id'), 0)
from import_rows where noun = 'hops' order by position

-- name: put_participants
insert into participants (id, meeting_id, agent_id, join_order, status, joined_at, left_at)
select record ->> 'id', record ->> 'meeting_id', record ->> 'agent_id', record ->> 'join_order', record ->> 'status',
  record ->> 'joined_at', record ->> 'left_at'
from import_rows where noun = 'participants' order by position

-- name: put_turns
insert into turns (meeting_id, number, agent_id, purpose, next_id, started_at, deadline_at, deadline_due, ended_at,
  how, delivery_seq, message_seq)
select record ->> 'meeting_id', record ->> 'number', record ->> 'agent_id', record ->> 'purpose', record ->>
  'next_id', record ->> 'started_at', record ->> 'deadline_at', record ->> 'deadline_due', record ->> 'ended_at',
  record ->> 'how', (select seq from messages where id = record ->> 'delivery_id'), (select seq from messages where id
  = record ->> 'message_id')
from import_rows where noun = 'turns' order by position

-- name: put_meeting_events
insert into meeting_events (meeting_id, type, agent_id, data, checksum, message_seq, created_at)
select record ->> 'meeting_id', record ->> 'type', record ->> 'agent_id', record ->> 'data', record ->> 'checksum',
  (select seq from messages where id = record ->> 'message_id'), record ->> 'created_at'
from import_rows where noun = 'meeting_events' order by position

-- name: put_subscriptions
insert into subscriptions (pattern, agent_id, created_at)
select record ->> 'pattern', record ->> 'agent_id', record ->> 'created_at'
from import_rows where noun = 'subscriptions' order by position

-- name: put_idempotency_keys
insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
select record ->> 'sender_id', record ->> 'call', record ->> 'key', record ->> 'fingerprint', record ->>
  'message_ids', record ->> 'created_at'
from import_rows where noun = 'idempotency_keys' order by position

-- name: put_workers
insert into workers (id, role, capabilities, capacity, status, alive_until_due, booked, reported, pulls, metadata,
  registered_at, heartbeat_at, idle_at)
select record ->> 'id', record ->> 'role', record ->> 'capabilities', record ->> 'capacity', record ->> 'status',
  record ->> 'alive_until_due', record ->> 'booked', record ->> 'reported', record ->> 'pulls', record ->> 'metadata',
  record ->> 'registered_at', record ->> 'heartbeat_at', record ->> 'idle_at'
from import_rows where noun = 'workers' order by position

-- name: put_queue_messages
insert into queue_messages (agent_id, message_id, sender_id, type, priority, content, metadata, checksum, state,
  token, attempt, max_attempts, suspect, owner, run_due, expires_at, expires_due, ended_as, reason, queued_due, created_at,
  claimed_at, settled_at, settled_due)
select record ->> 'agent_id', record ->> 'message_id', record ->> 'sender_id', record ->> 'type', record ->>
  'priority', record ->> 'content', record ->> 'metadata', record ->> 'checksum', record ->> 'state', record ->>
  'token', record ->> 'attempt', record ->> 'max_attempts', record ->> 'suspect', record ->> 'owner',
  coalesce(record ->> 'run_due', 0), record ->> 'expires_at', record ->> 'expires_due', record ->> 'ended_as',
  record ->> 'reason', record ->> 'queued_due', record ->> 'created_at', record ->> 'claimed_at', record ->> 'settled_at',
  record ->> 'settled_due'
from import_rows where noun = 'queue_messages' order by position

-- name: put_tasks
insert into tasks (id, type, description, needs, priority, content, checksum, message, is_assigned, supervisor,
  origin, state, token, attempt, max_attempts, suspect, worker_id, owner, run_limit, run_due, deadline_at,
  deadline_due, until_due, ended_as, reason, result, result_checksum, fraction, note, log, queued_due, created_at,
  assigned_at, settled_at, settled_due, trace)
select record ->> 'id', record ->> 'type', record ->> 'description', record ->> 'needs', record ->> 'priority', record
  ->> 'content', record ->> 'checksum', record ->> 'message', record ->> 'is_assigned', record ->> 'supervisor',
  record ->> 'origin', record ->> 'state', record ->> 'token', record ->> 'attempt', record ->> 'max_attempts', record
  ->> 'suspect', record ->> 'worker_id', record ->> 'owner', record ->> 'run_limit', coalesce(record ->> 'run_due',
  0), record ->> 'deadline_at', record ->> 'deadline_due', record ->> 'until_due', record ->> 'ended_as', record ->>
  'reason', record ->> 'result', record ->> 'result_checksum', record ->> 'fraction', record ->> 'note', record ->>
  'log', record ->> 'queued_due', record ->> 'created_at', record ->> 'assigned_at', record ->> 'settled_at', record
  ->> 'settled_due', record ->> 'trace'
from import_rows where noun = 'tasks' order by position

-- name: put_schedules
insert into schedules (name, rule, zone, task, next_at, next_due, since_due, fired, fired_at, created_at)
select record ->> 'name', record ->> 'rule', record ->> 'zone', record ->> 'task', record ->> 'next_at', record ->>
  'next_due', record ->> 'since_due', record ->> 'fired', record ->> 'fired_at', record ->> 'created_at'
from import_rows where noun = 'schedules' order by position

-- name: put_retention
update retention set newest_pruned = max(newest_pruned, r.record ->> 'newest_pruned')
from import_rows as r where r.noun = 'retention' and r.record ->> 'kind' = kind

-- name: find_foreign_meetings
-- The meetings of the organization that agents of others are in, and theirs that it is in.
select json_group_array(distinct p.meeting_id) from participants as p
cross join meetings as t on t.id = p.meeting_id
where (select organization_id from agents where id = p.agent_id) <> (select organization_id from agents where id = t.host_id)
  and :organization in (
    (select organization_id from agents where id = p.agent_id), (select organization_id from agents where id = t.host_id)
  )

-- name: count_crossing_messages
select count(*) from messages as m
where recipient_id is not null
  and (select organization_id from agents where id = m.sender_id) <> (select organization_id from agents where id = m.recipient_id)
  and :organization in (
    (select organization_id from agents where id = m.sender_id), (select organization_id from agents where id = m.recipient_id)
  )

-- name: count_archive_rows
select (select count(*) from messages) + (select count(*) from deliveries) + (select count(*) from meeting_events)
  + (select count(*) from queue_messages) + (select count(*) from tasks) + (select count(*) from idempotency_keys)

-- name: find_last_numbers
-- What is put in place behind these is what comes next.
select json_object(
  'messages', (select coalesce(max(seq), 0) from messages),
  'meeting_events', (select coalesce(max(seq), 0) from meeting_events),
  'queue_messages', (select coalesce(max(seq), 0) from queue_messages),
  'tasks', (select coalesce(max(seq), 0) from tasks)
)

-- name: find_import
select json_array(staged, finished_at) from imports where archive = :archive

-- name: begin_import
insert into imports (archive, begun_at) values (:archive, :at)
on conflict (archive) do update set begun_at = excluded.begun_at

-- name: forget_imports
delete from imports where archive <> :archive and finished_at is null

-- name: reset_imports
update imports set staged = 0 where staged > 0

-- name: clear_import_rows
delete from import_rows

-- name: count_import_rows
select json_group_object(noun, number) from (select noun, count(*) as number from import_rows group by noun)

-- name: stage_count
update imports set staged = :after where archive = :archive and staged = :before

-- name: stage_rows
insert into import_rows (noun, position, record)
select value ->> 0, value ->> 1, value ->> 2 from json_each(:rows)

-- name: list_import_rows
select json_group_array(json_array(position, json(record))) from (
  select position, record from (
    select position, record, sum(octet_length(record)) over (order by position rows between unbounded preceding and 1 preceding)
      as before
    from (select position, record from import_rows where noun = :noun and position > :after order by position limit :limit)
  ) where coalesce(before, 0) < :most_bytes
)

-- name: end_import
update imports set finished_at = :at, staged = 0 where archive = :archive

-- name: remove_import
delete from imports where archive = :archive and finished_at is null

-- name: taken_organizations
select json_group_array(name) from (
  select distinct o.external_id as name from import_rows as r
  cross join organizations as o on o.id = r.record ->> 'id' or o.external_id = r.record ->> 'external_id'
  where r.noun = 'organizations' limit 10
)

-- name: taken_agents
select json_group_array(name) from (
  select distinct a.external_id as name from import_rows as r
  cross join agents as a on a.id = r.record ->> 'id' or a.external_id = r.record ->> 'external_id'
  where r.noun = 'agents' limit 10
)

-- name: taken_workers
select json_group_array(name) from (
  select w.id as name from import_rows as r cross join workers as w on w.id = r.record ->> 'id' where r.noun = 'workers' limit 10
)

-- name: taken_queue_messages
select json_group_array(name) from (
  select q.message_id as name from import_rows as r
  cross join queue_messages as q on q.agent_id = r.record ->> 'agent_id' and q.message_id = r.record ->> 'message_id'
  where r.noun = 'queue_messages' limit 10
)

-- name: taken_tasks
select json_group_array(name) from (
  select t.id as name from import_rows as r cross join tasks as t on t.id = r.record ->> 'id' where r.noun = 'tasks' limit 10
)

-- name: taken_schedules
select json_group_array(name) from (
  select s.name from import_rows as r cross join schedules as s on s.name = r.record ->> 'name'
  where r.noun = 'schedules' limit 10
)
