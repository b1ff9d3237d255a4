-- A check of the store reads each table in pages, in the order of its key. storage/checks.py examines the values.

-- name: check_organizations
select to_jsonb(t)::text as row from (select * from organizations order by id limit $1 offset $2) t

-- name: check_agents
select to_jsonb(t)::text as row from (select * from agents order by id limit $1 offset $2) t

-- name: check_messages
select (to_jsonb(t) - 'content' - 'metadata')::text as row from (
  select * from messages where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_deliveries
select (to_jsonb(t))::text as row from (
  select * from deliveries where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_idempotency_keys
select to_jsonb(t)::text as row from (select * from idempotency_keys order by sender_id, call, key limit $1 offset $2) t

-- name: check_processes
select to_jsonb(t)::text as row from (select * from processes order by id limit $1 offset $2) t

-- name: check_services
select to_jsonb(t)::text as row from (select * from services order by process_id, agent_id, kind limit $1 offset $2) t

-- name: check_sessions
select to_jsonb(t)::text as row from (select * from sessions order by id limit $1 offset $2) t

-- name: check_asks
select (to_jsonb(t))::text as row from (
  select * from asks where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_waits
select to_jsonb(t)::text as row from (select * from waits order by id limit $1 offset $2) t

-- name: check_hops
select to_jsonb(t)::text as row from (select * from hops order by message_id, number limit $1 offset $2) t

-- name: check_notices
select (to_jsonb(t))::text as row from (
  select * from notices where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_subscriptions
select to_jsonb(t)::text as row from (select * from subscriptions order by pattern, agent_id limit $1 offset $2) t

-- name: check_streams
select to_jsonb(t)::text as row from (select * from streams order by ask_id limit $1 offset $2) t

-- name: check_parts
select (to_jsonb(t) - 'content')::text as row from (select * from parts order by ask_id, number limit $1 offset $2) t

-- name: check_search_state
select to_jsonb(t)::text as row from (select * from search_state order by is_one limit $1 offset $2) t

-- name: check_unread_counts
select to_jsonb(t)::text as row from (
  select agent_id, kind, unread from unread_counts order by agent_id, kind, is_sum, ctid limit $1 offset $2
) t

-- name: find_strays
-- Messages whose agents do not exist: foreign keys lead to none.
select m.id::text from messages m
where not exists (select from agents a where a.id = m.sender_id)
  or (m.recipient_id is not null and not exists (select from agents a where a.id = m.recipient_id))
limit 100

-- name: find_left_claims
-- PostgreSQL alone: a lease may be over while a claim is being committed; a lock of SQLite's processes never is. What a
-- process that has ended still has claimed returns at its hard end, but only a mistake leaves it there.
select p.id::text, p.host, p.pid, p.end_reason, (array_agg(m.id::text order by d.seq))[:5] as message_ids, count(*) as number
from deliveries d join processes p on p.id = d.owner join messages m on m.seq = d.seq
where d.state = 'claimed' and p.ended_at < store_now() - interval '1 minute'
group by p.id

-- name: find_hidden
-- PostgreSQL alone. What is open below the floor of its mailbox, where nobody looks for it; somebody has written there by hand.
select d.recipient_id::text, d.kind, count(*) from deliveries d
where (d.state = 'claimed' or d.state = 'queued' and d.run_at is null) and d.seq <= (
  select f.seq from floors f where f.recipient_id = d.recipient_id and f.kind = d.kind order by f.seq desc limit 1
)
group by d.recipient_id, d.kind

-- name: find_miscounts
select x.agent_id::text, x.kind, sum(x.unread)::bigint as unread, sum(x.found)::bigint as found from (
  select c.agent_id, c.kind, c.unread, 0 as found from unread_counts c
  union all
  select d.recipient_id, d.kind, 0, 1 from deliveries d, search_state s where d.read_at is null and d.seq <= s.indexed_to
) x
group by x.agent_id, x.kind having sum(x.unread) <> sum(x.found) limit 100

-- name: check_retention
select to_jsonb(t)::text as row from (select * from retention order by kind limit $1 offset $2) t

-- name: check_meetings
select to_jsonb(t)::text as row from (select * from meetings order by id limit $1 offset $2) t

-- name: check_participants
select to_jsonb(t)::text as row from (select * from participants order by id limit $1 offset $2) t

-- name: check_turns
select to_jsonb(t)::text as row from (select * from turns order by meeting_id, number limit $1 offset $2) t

-- name: check_meeting_events
select (to_jsonb(t) - 'data')::text as row from (
  select * from meeting_events where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_queue_messages
select (to_jsonb(t) - 'content' - 'metadata')::text as row from (
  select * from queue_messages where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_queue_listeners
select to_jsonb(t)::text as row from (select * from queue_listeners order by agent_id, process_id limit $1 offset $2) t

-- name: check_workers
select (to_jsonb(t) - 'metadata')::text as row from (select * from workers order by id limit $1 offset $2) t

-- name: check_worker_processes
select to_jsonb(t)::text as row from (select * from worker_processes order by worker_id, process_id limit $1 offset $2) t

-- name: check_tasks
select (to_jsonb(t) - 'content' - 'result' - 'message')::text as row from (
  select * from tasks where seq > $2 order by seq limit $1
) t order by t.seq

-- name: check_queue_counts
select to_jsonb(t)::text as row from (
  select agent_id, what, number from queue_counts order by agent_id, what, is_sum, ctid limit $1 offset $2
) t

-- name: check_task_counts
select to_jsonb(t)::text as row from (
  select supervisor, state, number from task_counts order by supervisor, state, is_sum, ctid limit $1 offset $2
) t

-- name: check_schedules
select to_jsonb(t)::text as row from (select * from schedules order by name limit $1 offset $2) t

-- name: check_imports
select to_jsonb(t)::text as row from (select * from imports order by archive limit $1 offset $2) t

-- name: check_import_rows
select (to_jsonb(t) - 'record')::text as row from (select * from import_rows order by noun, position limit $1 offset $2) t

-- name: check_bodies_of_messages
select m.seq, 'message ' || m.id as name, m.content, m.metadata, m.checksum from (
  select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
    select seq, octet_length(content) + octet_length(coalesce(metadata, '')) as size from messages
    where seq > $1 order by seq limit $2
  ) as sizes
) as page join messages as m on m.seq = page.seq where coalesce(page.before, 0) < $3 order by m.seq + 0

-- name: check_bodies_of_events
select e.seq, 'event ' || e.seq || ' of meeting ' || e.meeting_id as name, e.data as content, null as metadata,
  e.checksum
from (
  select seq, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
    select seq, octet_length(data) as size from meeting_events where seq > $1 order by seq limit $2
  ) as sizes
) as page join meeting_events as e on e.seq = page.seq where coalesce(page.before, 0) < $3 order by e.seq + 0
