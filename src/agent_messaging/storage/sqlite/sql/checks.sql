-- What a check of the store reads: each table in pages, in the order of its key. storage/checks.py examines the values.

-- name: check_organizations
select json_group_array(json_object('id', id, 'external_id', external_id, 'name', name, 'created_at', created_at,
  'updated_at', updated_at)) from (
  select * from organizations order by id limit :limit offset :offset
)

-- name: check_agents
select json_group_array(json_object('id', id, 'external_id', external_id, 'organization_id', organization_id, 'name',
  name, 'created_at', created_at, 'updated_at', updated_at)) from (
  select * from agents order by id limit :limit offset :offset
)

-- name: check_messages
select json_group_array(json_object('seq', seq, 'id', id, 'kind', kind, 'sender_id', sender_id, 'recipient_id',
  recipient_id, 'session_id', session_id, 'meeting_id', meeting_id, 'message_type', message_type, 'created_at',
  created_at, 'topic', topic)) from (
  select * from messages where seq > :after_seq order by seq limit :limit
)

-- name: check_deliveries
select json_group_array(json_object('seq', seq, 'recipient_id', recipient_id, 'kind', kind, 'sender_id', sender_id,
  'thread', thread, 'state', state, 'token', token, 'attempt', attempt, 'max_attempts', max_attempts, 'suspect', suspect, 'origin',
  origin, 'owner', owner, 'run_due', run_due, 'run_at', run_at, 'expires_due', expires_due, 'expires_at', expires_at,
  'claim_until_due', claim_until_due, 'queued_due', queued_due, 'claimed_at', claimed_at, 'settled_at', settled_at,
  'read_at', read_at, 'log', log, 'ask_timeout', ask_timeout, 'session_id', session_id)) from (
  select * from deliveries where seq > :after_seq order by seq limit :limit
)

-- name: check_idempotency_keys
select json_group_array(json_object('sender_id', sender_id, 'call', call, 'key', key, 'fingerprint', fingerprint,
  'message_ids', message_ids, 'created_at', created_at)) from (
  select * from idempotency_keys order by sender_id, call, key limit :limit offset :offset
)

-- name: check_processes
select json_group_array(json_object('id', id, 'host', host, 'pid', pid, 'boot_id', boot_id, 'lock_name', lock_name,
  'doorbell_port', doorbell_port, 'started_at', started_at, 'ended_at', ended_at, 'ended_due', ended_due,
  'end_reason', end_reason)) from (
  select * from processes order by id limit :limit offset :offset
)

-- name: check_services
select json_group_array(json_object('process_id', process_id, 'agent_id', agent_id, 'kind', kind, 'explicit',
  explicit, 'slots', slots)) from (
  select * from services order by process_id, agent_id, kind limit :limit offset :offset
)

-- name: check_sessions
select json_group_array(json_object('id', id, 'agent_a_id', agent_a_id, 'agent_b_id', agent_b_id, 'thread', thread,
  'session_type', session_type, 'created_at', created_at, 'ended_at', ended_at, 'ended_by', ended_by)) from (
  select * from sessions order by id limit :limit offset :offset
)

-- name: check_asks
select json_group_array(json_object('seq', seq, 'session_id', session_id, 'asker_id', asker_id, 'responder_id',
  responder_id, 'state', state, 'within', within, 'taken_within', taken_within, 'keyed', keyed, 'origin', origin,
  'deadline_due', deadline_due, 'deadline_at', deadline_at, 'answer_seq', answer_seq, 'reason', reason, 'ended_at',
  ended_at)) from (
  select * from asks where seq > :after_seq order by seq limit :limit
)

-- name: check_waits
select json_group_array(json_object('id', id, 'recipient_id', recipient_id, 'sender_id', sender_id, 'thread', thread,
  'process_id', process_id, 'until_due', until_due, 'is_ended', is_ended, 'within', within)) from (
  select * from waits order by id limit :limit offset :offset
)

-- name: check_hops
select json_group_array(json_object('message_id', message_id, 'number', number, 'asker_id', asker_id, 'from_id', from_id,
  'to_id', to_id, 'kept_id', kept_id, 'kept_seq', kept_seq, 'stored_at', stored_at, 'forwarded_at', forwarded_at)) from (
  select * from hops order by message_id, number limit :limit offset :offset
)

-- name: check_notices
select json_group_array(json_object('seq', seq, 'recipient_id', recipient_id, 'created_due', created_due)) from (
  select * from notices where seq > :after_seq order by seq limit :limit
)

-- name: check_subscriptions
select json_group_array(json_object('pattern', pattern, 'agent_id', agent_id, 'created_at', created_at)) from (
  select * from subscriptions order by pattern, agent_id limit :limit offset :offset
)

-- name: check_streams
select json_group_array(json_object('ask_id', ask_id, 'reader', reader, 'seq', seq, 'token', token, 'written', written))
from (select * from streams order by ask_id limit :limit offset :offset)

-- name: check_parts
select json_group_array(json_object('ask_id', ask_id, 'number', number)) from (
  select ask_id, number from parts order by ask_id, number limit :limit offset :offset
)

-- name: check_search_state
select json_group_array(json_object('is_one', is_one, 'indexed_to', indexed_to, 'owner', owner, 'until_due', until_due))
from (select * from search_state order by is_one limit :limit offset :offset)

-- name: check_unread_counts
select json_group_array(json_object('agent_id', agent_id, 'kind', kind, 'unread', unread)) from (
  select * from unread_counts order by agent_id, kind limit :limit offset :offset
)

-- name: find_miscounts
select json_group_array(json_array(agent_id, kind, unread, found)) from (
  select agent_id, kind, sum(unread) as unread, sum(found) as found from (
    select agent_id, kind, unread, 0 as found from unread_counts
    union all
    select recipient_id, kind, 0, count(*) from deliveries
    where is_unread = 1 and seq <= (select filed from message_numbers) group by recipient_id, kind
  ) group by agent_id, kind having sum(unread) <> sum(found) limit 100
)

-- name: check_retention
select json_group_array(json_object('kind', kind, 'newest_pruned', newest_pruned, 'turn_due', turn_due))
from (select * from retention order by kind limit :limit offset :offset)

-- name: check_meetings
select json_group_array(json_object('id', id, 'host_id', host_id, 'status', status, 'selection', selection,
  'turn_duration', turn_duration, 'turn', turn, 'max_attempts', max_attempts, 'max_turns', max_turns, 'max_duration',
  max_duration, 'host_speaks', host_speaks, 'end_when', end_when, 'turns_taken', turns_taken, 'deadline_due',
  deadline_due, 'deadline_at', deadline_at, 'end_reason', end_reason, 'created_at', created_at, 'started_at',
  started_at, 'ended_at', ended_at)) from (
  select * from meetings order by id limit :limit offset :offset
)

-- name: check_participants
select json_group_array(json_object('id', id, 'meeting_id', meeting_id, 'agent_id', agent_id, 'join_order',
  join_order, 'status', status, 'process_id', process_id, 'joined_at', joined_at, 'left_at', left_at)) from (
  select * from participants order by id limit :limit offset :offset
)

-- name: check_turns
select json_group_array(json_object('meeting_id', meeting_id, 'number', number, 'agent_id', agent_id, 'purpose',
  purpose, 'next_id', next_id, 'started_at', started_at, 'deadline_due', deadline_due, 'deadline_at', deadline_at,
  'ended_at', ended_at, 'how', how, 'delivery_seq', delivery_seq, 'message_seq', message_seq)) from (
  select * from turns order by meeting_id, number limit :limit offset :offset
)

-- name: check_meeting_events
select json_group_array(json_object('seq', seq, 'meeting_id', meeting_id, 'type', type, 'agent_id', agent_id,
  'message_seq', message_seq, 'created_at', created_at)) from (
  select * from meeting_events where seq > :after_seq order by seq limit :limit
)

-- name: check_queue_messages
select json_group_array(json_object('seq', seq, 'agent_id', agent_id, 'message_id', message_id, 'sender_id', sender_id,
  'type', type, 'priority', priority, 'state', state, 'token', token, 'attempt', attempt, 'max_attempts', max_attempts,
  'owner', owner, 'suspect', suspect, 'run_due', run_due, 'expires_due', expires_due, 'expires_at', expires_at,
  'claim_until_due', claim_until_due, 'ended_as', ended_as, 'reason', reason, 'queued_due', queued_due, 'created_at', created_at,
  'claimed_at', claimed_at, 'settled_at', settled_at, 'settled_due', settled_due)) from (
  select * from queue_messages where seq > :after_seq order by seq limit :limit
)

-- name: check_queue_listeners
select json_group_array(json_object('agent_id', agent_id, 'process_id', process_id)) from (
  select * from queue_listeners order by agent_id, process_id limit :limit offset :offset
)

-- name: check_workers
select json_group_array(json_object('id', id, 'role', role, 'capabilities', capabilities, 'capacity', capacity, 'status',
  status, 'alive_until_due', alive_until_due, 'booked', booked, 'reported', reported, 'pulls', pulls, 'registered_at',
  registered_at, 'heartbeat_at', heartbeat_at, 'idle_at', idle_at)) from (
  select * from workers order by id limit :limit offset :offset
)

-- name: check_worker_processes
select json_group_array(json_object('worker_id', worker_id, 'process_id', process_id)) from (
  select * from worker_processes order by worker_id, process_id limit :limit offset :offset
)

-- name: check_tasks
select json_group_array(json_object('seq', seq, 'id', id, 'type', type, 'description', description, 'needs', needs, 'priority',
  priority, 'is_assigned', is_assigned, 'supervisor', supervisor, 'origin', origin, 'state', state, 'token', token,
  'attempt', attempt, 'max_attempts', max_attempts, 'worker_id', worker_id, 'owner', owner, 'suspect', suspect,
  'run_limit', run_limit, 'run_due', run_due, 'deadline_due', deadline_due, 'deadline_at', deadline_at, 'until_due', until_due,
  'ended_as', ended_as, 'reason', reason, 'fraction', fraction, 'note', note, 'log', log, 'queued_due', queued_due,
  'created_at', created_at, 'assigned_at', assigned_at, 'settled_at', settled_at, 'settled_due', settled_due)) from (
  select * from tasks where seq > :after_seq order by seq limit :limit
)

-- name: check_queue_counts
select json_group_array(json_object('agent_id', agent_id, 'what', what, 'number', number)) from (
  select * from queue_counts order by agent_id, what limit :limit offset :offset
)

-- name: check_task_counts
select json_group_array(json_object('supervisor', supervisor, 'state', state, 'number', number)) from (
  select * from task_counts order by supervisor, state limit :limit offset :offset
)

-- name: check_schedules
select json_group_array(json_object('name', name, 'rule', rule, 'zone', zone, 'task', task, 'next_at', next_at,
  'next_due', next_due, 'since_due', since_due, 'fired', fired, 'fired_at', fired_at, 'created_at', created_at)) from (
  select * from schedules order by name limit :limit offset :offset
)

-- name: check_imports
select json_group_array(json_object('archive', archive, 'staged', staged, 'begun_at', begun_at, 'finished_at', finished_at))
from (select * from imports order by archive limit :limit offset :offset)

-- name: check_import_rows
select json_group_array(json_object('noun', noun, 'position', position)) from (
  select noun, position from import_rows order by noun, position limit :limit offset :offset
)

-- name: check_bodies_of_messages
select json_group_array(json_array(seq, 'message ' || id, content, metadata, checksum)) from (
  select m.* from (
    select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
      select seq, octet_length(content) + octet_length(coalesce(metadata, '')) as size from messages
      where seq > :after_seq order by seq limit :limit
    )
  ) as page cross join messages as m on m.seq = page.seq where coalesce(page.before, 0) < :most_bytes order by m.seq
)

-- name: check_bodies_of_events
select json_group_array(json_array(seq, 'event ' || seq || ' of meeting ' || meeting_id, data, null, checksum)) from (
  select e.* from (
    select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
      select seq, octet_length(data) as size from meeting_events where seq > :after_seq order by seq limit :limit
    )
  ) as page cross join meeting_events as e on e.seq = page.seq where coalesce(page.before, 0) < :most_bytes
  order by e.seq
)

-- name: touch_index
select json_group_array(rowid) from (select rowid from search_words where search_words match '"a"' limit 1)

-- name: find_strays
-- Messages whose agents do not exist: foreign keys lead to none.
select json_group_array(id) from (
  select id from messages as m
  where not exists (select 1 from agents where id = m.sender_id)
    or (recipient_id is not null and not exists (select 1 from agents where id = m.recipient_id))
  limit 100
)

-- name: find_misfiled
-- Deliveries up to the mark that are missing from one of their lists.
select json_group_array(seq) from (
  select distinct i.seq from listings as i
  left join lists as l on (l.owner_id, l.name, l.kind, l.sender_id, l.thread) = (i.owner_id, i.name, i.kind, i.sender_id, i.thread)
  left join listed as e on e.list = l.number and e.seq = i.seq
  where i.seq <= (select filed from message_numbers) and e.seq is null
  limit 100
)

-- name: find_mislisted
-- Numbers on a list on which they do not belong.
select json_group_array(seq) from (
  select distinct e.seq from listed as e left join lists as l on l.number = e.list
  where not exists (
    select 1 from listings as i
    where i.seq = e.seq and (i.owner_id, i.name, i.kind, i.sender_id, i.thread) = (l.owner_id, l.name, l.kind, l.sender_id, l.thread)
  )
  limit 100
)

-- name: find_numbering
-- What is known of numbers, beside what is there.
select json_array((select filed from message_numbers), (select removed from message_numbers),
  coalesce((select max(seq) from messages), 0),
  coalesce((select max((select max(seq) from listed where list = l.number)) from lists as l), 0),
  coalesce((select indexed_to from search_state), 0))
