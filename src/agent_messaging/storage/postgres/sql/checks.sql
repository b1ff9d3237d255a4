-- What a check of the store reads: each table in pages, in the order of its key. storage/checks.py examines the values.

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

-- name: check_notices
select (to_jsonb(t))::text as row from (
  select * from notices where seq > $2 order by seq limit $1
) t order by t.seq

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

-- name: check_bodies_of_messages
select seq, 'message ' || id as name, content, metadata, checksum from messages where seq > $1 order by seq limit $2

-- name: check_bodies_of_events
select seq, 'event ' || seq || ' of meeting ' || meeting_id as name, data as content, null as metadata, checksum
from meeting_events where seq > $1 order by seq limit $2
