-- Moving: what an archive has of each table, in pages in the order of its key, and how it is put into a store.
-- storage/archive/tables.py says which columns, and what becomes of an open claim. The parameters are the key behind which a page
-- begins, the most rows, the organization (null is all of them), where it is asked for its meetings with agents of others,
-- which stay out, and the bytes with which a page is full. Of what is sent or asked between two organizations neither takes
-- anything along.

-- name: read_organizations
select to_json(t)::text as record from (
  select o.* from organizations o where o.id > $1::text::uuid and ($3::text is null or o.id = $3::text::uuid) order by o.id limit $2
) t

-- name: read_agents
select to_json(t)::text as record from (
  select g.* from agents g
  where g.id > $1::text::uuid and ($3::text is null or g.organization_id = $3::text::uuid)
  order by g.id limit $2
) t

-- name: read_sessions
select to_json(t)::text as record from (
  select s.* from sessions s
  where s.id > $1::text::uuid and ($3::text is null or (
    (select a.organization_id from agents a where a.id = s.agent_a_id) = $3::text::uuid
    and (select a.organization_id from agents a where a.id = s.agent_b_id) = $3::text::uuid
  ))
  order by s.id limit $2
) t

-- name: read_meetings
select to_json(t)::text as record from (
  select t.* from meetings t
  where t.id > $1::text::uuid and ($3::text is null or (
    (select a.organization_id from agents a where a.id = t.host_id) = $3::text::uuid and t.id <> all($4::text[]::uuid[])
  ))
  order by t.id limit $2
) t

-- name: read_messages
select to_json(t)::text as record from (
  select m.* from (
    select s.seq, sum(s.size) over (order by s.seq rows between unbounded preceding and 1 preceding) as before from (
      select m.seq, octet_length(m.content) + octet_length(coalesce(m.metadata, '')) as size from messages m
      where m.seq > $1::bigint and ($3::text is null or (
        (select a.organization_id from agents a where a.id = m.sender_id) = $3::text::uuid
        and (m.recipient_id is null or (select a.organization_id from agents a where a.id = m.recipient_id) = $3::text::uuid)
        and (m.meeting_id is null or m.meeting_id <> all($4::text[]::uuid[]))
      ))
      order by m.seq limit $2
    ) as s
  ) as page join messages m on m.seq = page.seq where coalesce(page.before, 0) < $5::bigint order by m.seq + 0
) t

-- name: read_deliveries
select to_json(t)::text as record from (
  select d.*, m.id as message_id, k.state as ask_state, k.keyed as ask_keyed
  from deliveries d join messages m on m.seq = d.seq left join asks k on k.seq = d.seq
  where d.seq > $1::bigint and ($3::text is null or (
    (select a.organization_id from agents a where a.id = m.sender_id) = $3::text::uuid
    and (m.recipient_id is null or (select a.organization_id from agents a where a.id = m.recipient_id) = $3::text::uuid)
    and (m.meeting_id is null or m.meeting_id <> all($4::text[]::uuid[]))
  ))
  order by d.seq limit $2
) t

-- name: read_asks
-- The run in which it was made, or taken, is told where its message comes along: of one organization, another's may not.
select to_json(t)::text as record from (
  select k.*, m.id as message_id, (
      select i.id from messages i where i.seq = k.within and ($3::text is null or (
        (select a.organization_id from agents a where a.id = i.sender_id) = $3::text::uuid
        and (select a.organization_id from agents a where a.id = i.recipient_id) = $3::text::uuid
        and (i.meeting_id is null or i.meeting_id <> all($4::text[]::uuid[]))
      ))
    ) as within_id, case when k.taken_within is not null then coalesce((
      select i.id from messages i where i.seq = k.taken_within and ($3::text is null or (
        (select a.organization_id from agents a where a.id = i.sender_id) = $3::text::uuid
        and (select a.organization_id from agents a where a.id = i.recipient_id) = $3::text::uuid
        and (i.meeting_id is null or i.meeting_id <> all($4::text[]::uuid[]))
      ))
    )::text, '') end as taken_within_id,
    (select i.id from messages i where i.seq = k.answer_seq) as answer_id
  from asks k join messages m on m.seq = k.seq
  where k.seq > $1::bigint and ($3::text is null or (
    (select a.organization_id from agents a where a.id = m.sender_id) = $3::text::uuid
    and (m.recipient_id is null or (select a.organization_id from agents a where a.id = m.recipient_id) = $3::text::uuid)
    and (m.meeting_id is null or m.meeting_id <> all($4::text[]::uuid[]))
  ))
  order by k.seq limit $2
) t

-- name: read_notices
select to_json(t)::text as record from (
  select n.*, m.id as message_id
  from notices n join messages m on m.seq = n.seq
  where n.seq > $1::bigint and ($3::text is null or (
    (select a.organization_id from agents a where a.id = m.sender_id) = $3::text::uuid
    and (m.recipient_id is null or (select a.organization_id from agents a where a.id = m.recipient_id) = $3::text::uuid)
    and (m.meeting_id is null or m.meeting_id <> all($4::text[]::uuid[]))
  ))
  order by n.seq limit $2
) t

-- name: read_hops
select to_json(t)::text as record from (
  select h.* from hops h
  where (h.message_id, h.number) > ($1::text::uuid, $2::integer) and ($4::text is null or (
    (select a.organization_id from agents a where a.id = h.asker_id) = $4::text::uuid
    and (
      select a.organization_id from agents a where a.id = (select m.recipient_id from messages m where m.id = h.message_id)
    ) = $4::text::uuid
  ))
  order by h.message_id, h.number limit $3
) t

-- name: read_participants
select to_json(t)::text as record from (
  select p.* from participants p
  where p.id > $1::text::uuid and ($3::text is null or (
    (select a.organization_id from agents a where a.id = p.agent_id) = $3::text::uuid and p.meeting_id <> all($4::text[]::uuid[])
  ))
  order by p.id limit $2
) t

-- name: read_turns
select to_json(t)::text as record from (
  select u.*, (select i.id from messages i where i.seq = u.delivery_seq) as delivery_id,
    (select i.id from messages i where i.seq = u.message_seq) as message_id
  from turns u
  where (u.meeting_id, u.number) > ($1::text::uuid, $2::integer) and ($4::text is null or (
    (
      select a.organization_id from agents a where a.id = (select t.host_id from meetings t where t.id = u.meeting_id)
    ) = $4::text::uuid
    and u.meeting_id <> all($5::text[]::uuid[])
  ))
  order by u.meeting_id, u.number limit $3
) t

-- name: read_meeting_events
select to_json(t)::text as record from (
  select e.*, (select i.id from messages i where i.seq = e.message_seq) as message_id from (
    select s.seq, sum(s.size) over (order by s.seq rows between unbounded preceding and 1 preceding) as before from (
      select e.seq, octet_length(e.data) as size from meeting_events e
      where e.seq > $1::bigint and ($3::text is null or (
        (
          select a.organization_id from agents a where a.id = (select t.host_id from meetings t where t.id = e.meeting_id)
        ) = $3::text::uuid
        and e.meeting_id <> all($4::text[]::uuid[])
      ))
      order by e.seq limit $2
    ) as s
  ) as page join meeting_events e on e.seq = page.seq where coalesce(page.before, 0) < $5::bigint order by e.seq + 0
) t

-- name: read_subscriptions
select to_json(t)::text as record from (
  select s.* from subscriptions s
  where (s.pattern, s.agent_id) > ($1::text, $2::text::uuid)
    and ($4::text is null or (select a.organization_id from agents a where a.id = s.agent_id) = $4::text::uuid)
  order by s.pattern, s.agent_id limit $3
) t

-- name: read_idempotency_keys
select to_json(t)::text as record from (
  select k.* from idempotency_keys k
  where (k.sender_id, k.call, k.key) > ($1::text::uuid, $2::text, $3::text)
    and ($5::text is null or (select a.organization_id from agents a where a.id = k.sender_id) = $5::text::uuid)
  order by k.sender_id, k.call, k.key limit $4
) t

-- name: read_workers
select to_json(t)::text as record from (
  select w.*, (select count(*) from tasks k where k.worker_id = w.id and k.state = 'assigned') as assigned
  from workers w where w.id > $1::text and $3::text is null order by w.id limit $2
) t

-- name: read_queue_messages
select to_json(t)::text as record from (
  select q.* from (
    select s.seq, sum(s.size) over (order by s.seq rows between unbounded preceding and 1 preceding) as before from (
      select q.seq, octet_length(q.content) + octet_length(coalesce(q.metadata, '')) as size from queue_messages q
      where q.seq > $1::bigint and $3::text is null
      order by q.seq limit $2
    ) as s
  ) as page join queue_messages q on q.seq = page.seq where coalesce(page.before, 0) < $4::bigint order by q.seq + 0
) t

-- name: read_tasks
select to_json(t)::text as record from (
  select k.* from (
    select s.seq, sum(s.size) over (order by s.seq rows between unbounded preceding and 1 preceding) as before from (
      select k.seq,
        octet_length(k.content) + octet_length(coalesce(k.result, '')) + octet_length(coalesce(k.message, '')) as size
      from tasks k
      where k.seq > $1::bigint and $3::text is null
      order by k.seq limit $2
    ) as s
  ) as page join tasks k on k.seq = page.seq where coalesce(page.before, 0) < $4::bigint order by k.seq + 0
) t

-- name: read_schedules
select to_json(t)::text as record from (
  select s.* from schedules s where s.name > $1::text and $3::text is null order by s.name limit $2
) t

-- name: read_retention
-- How far each kind was pruned, so that who asks for what has gone is told so after the move, too; of one organization, too. (The
-- third parameter is named because every page gives it.)
select to_json(t)::text as record from (
  select r.kind, r.newest_pruned from retention r
  where r.kind > $1 and r.newest_pruned <> '' and ($3::text is null or true)
  order by r.kind limit $2
) t

-- The rows wait in import_rows, by their positions. Those of messages get new numbers, in that order.

-- name: put_organizations
insert into organizations (id, external_id, name, created_at, updated_at)
select v.id, v.external_id, v.name, v.created_at, v.updated_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, external_id text, name text, created_at timestamptz,
  updated_at timestamptz)
where r.noun = 'organizations' order by r.position

-- name: put_agents
insert into agents (id, external_id, organization_id, name, created_at, updated_at)
select v.id, v.external_id, v.organization_id, v.name, v.created_at, v.updated_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, external_id text, organization_id uuid, name text,
  created_at timestamptz, updated_at timestamptz)
where r.noun = 'agents' order by r.position

-- name: put_sessions
insert into sessions (id, agent_a_id, agent_b_id, thread, session_type, created_at, ended_at, ended_by)
select v.id, v.agent_a_id, v.agent_b_id, v.thread, v.session_type, v.created_at, v.ended_at, v.ended_by
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, agent_a_id uuid, agent_b_id uuid, thread text,
  session_type text, created_at timestamptz, ended_at timestamptz, ended_by uuid)
where r.noun = 'sessions' order by r.position

-- name: put_meetings
insert into meetings (id, host_id, status, selection, turn_duration, turn, max_attempts, max_turns, max_duration,
  host_speaks, end_when, turns_taken, deadline_at, end_reason, created_at, started_at, ended_at)
select v.id, v.host_id, v.status, v.selection, v.turn_duration, v.turn, v.max_attempts, v.max_turns, v.max_duration,
  v.host_speaks, v.end_when, v.turns_taken, v.deadline_at, v.end_reason, v.created_at, v.started_at, v.ended_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, host_id uuid, status text, selection text,
  turn_duration float8, turn integer, max_attempts integer, max_turns integer, max_duration float8, host_speaks
  boolean, end_when boolean, turns_taken integer, deadline_at timestamptz, end_reason text, created_at timestamptz,
  started_at timestamptz, ended_at timestamptz)
where r.noun = 'meetings' order by r.position

-- name: put_messages
with kept as materialized (
  select keep_agents(array_agg(i.id)) as is_kept from (
    select (r.record::json ->> 'sender_id')::uuid as id from import_rows r where r.noun = 'messages'
    union
    select (r.record::json ->> 'recipient_id')::uuid from import_rows r
    where r.noun = 'messages' and r.record::json ->> 'recipient_id' is not null
  ) i
)
insert into messages (id, kind, sender_id, recipient_id, session_id, meeting_id, message_type, topic, content,
  metadata, checksum, created_at)
select v.id, v.kind, v.sender_id, v.recipient_id, v.session_id, v.meeting_id, v.message_type, v.topic, v.content,
  v.metadata, v.checksum, v.created_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, kind text, sender_id uuid, recipient_id uuid,
  session_id uuid, meeting_id uuid, message_type text, topic text, content text, metadata text, checksum bigint,
  created_at timestamptz)
where r.noun = 'messages' and (select k.is_kept from kept k) is not false order by r.position

-- name: put_deliveries
insert into deliveries (seq, thread, state, token, attempt, max_attempts, suspect, origin, owner, run_at, expires_at,
  queued_at, claimed_at, settled_at, read_at, ask_timeout, log, recipient_id, kind, sender_id)
select m.seq, v.thread, v.state, v.token, v.attempt, v.max_attempts, v.suspect, v.origin, v.owner, v.run_at,
  v.expires_at, v.queued_at, v.claimed_at, v.settled_at, v.read_at, v.ask_timeout, v.log, m.recipient_id, m.kind,
  m.sender_id
from import_rows r
cross join lateral json_to_record(r.record::json) as v (message_id uuid, thread text, state text, token integer,
  attempt integer, max_attempts integer, suspect boolean, origin uuid, owner uuid, run_at timestamptz, expires_at
  timestamptz, queued_at timestamptz, claimed_at timestamptz, settled_at timestamptz, read_at timestamptz, ask_timeout
  float8, log jsonb)
join messages m on m.id = v.message_id
where r.noun = 'deliveries' order by r.position

-- name: put_asks
insert into asks (seq, session_id, asker_id, responder_id, state, within, taken_within, keyed, origin, deadline_at,
  answer_seq, reason, ended_at)
select m.seq, v.session_id, v.asker_id, v.responder_id, v.state, (select i.seq from messages i where i.id =
  v.within_id), case when v.taken_within_id = '' then 0 else (select i.seq from messages i where i.id =
  v.taken_within_id::uuid) end, v.keyed, v.origin, v.deadline_at, (select i.seq from messages i where i.id =
  v.answer_id), v.reason, v.ended_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (message_id uuid, session_id uuid, asker_id uuid, responder_id
  uuid, state text, within_id uuid, taken_within_id text, keyed boolean, origin uuid, deadline_at timestamptz,
  answer_id uuid, reason text, ended_at timestamptz)
join messages m on m.id = v.message_id
where r.noun = 'asks' order by r.position

-- name: put_notices
insert into notices (seq, recipient_id, created_at)
select m.seq, v.recipient_id, v.created_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (message_id uuid, recipient_id uuid, created_at timestamptz)
join messages m on m.id = v.message_id
where r.noun = 'notices' order by r.position

-- name: put_hops
insert into hops (message_id, number, asker_id, from_id, to_id, kept_id, stored_at, forwarded_at, kept_seq)
select v.message_id, v.number, v.asker_id, v.from_id, v.to_id, v.kept_id, v.stored_at, v.forwarded_at,
  coalesce((select i.seq from messages i where i.id = v.kept_id), 0)
from import_rows r
cross join lateral json_to_record(r.record::json) as v (message_id uuid, number integer, asker_id uuid, from_id uuid,
  to_id uuid, kept_id uuid, stored_at timestamptz, forwarded_at timestamptz)
where r.noun = 'hops' order by r.position

-- name: put_participants
insert into participants (id, meeting_id, agent_id, join_order, status, joined_at, left_at)
select v.id, v.meeting_id, v.agent_id, v.join_order, v.status, v.joined_at, v.left_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, meeting_id uuid, agent_id uuid, join_order integer,
  status text, joined_at timestamptz, left_at timestamptz)
where r.noun = 'participants' order by r.position

-- name: put_turns
insert into turns (meeting_id, number, agent_id, purpose, next_id, started_at, deadline_at, ended_at, how,
  delivery_seq, message_seq)
select v.meeting_id, v.number, v.agent_id, v.purpose, v.next_id, v.started_at, v.deadline_at, v.ended_at, v.how,
  (select i.seq from messages i where i.id = v.delivery_id), (select i.seq from messages i where i.id = v.message_id)
from import_rows r
cross join lateral json_to_record(r.record::json) as v (meeting_id uuid, number integer, agent_id uuid, purpose text,
  next_id uuid, started_at timestamptz, deadline_at timestamptz, ended_at timestamptz, how text, delivery_id uuid,
  message_id uuid)
where r.noun = 'turns' order by r.position

-- name: put_meeting_events
insert into meeting_events (meeting_id, type, agent_id, data, checksum, message_seq, created_at)
select v.meeting_id, v.type, v.agent_id, v.data, v.checksum, (select i.seq from messages i where i.id = v.message_id),
  v.created_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (meeting_id uuid, type text, agent_id uuid, data text, checksum
  bigint, message_id uuid, created_at timestamptz)
where r.noun = 'meeting_events' order by r.position

-- name: put_subscriptions
insert into subscriptions (pattern, agent_id, created_at)
select v.pattern, v.agent_id, v.created_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (pattern text, agent_id uuid, created_at timestamptz)
where r.noun = 'subscriptions' order by r.position

-- name: put_idempotency_keys
insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
select v.sender_id, v.call, v.key, v.fingerprint, v.message_ids, v.created_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (sender_id uuid, call text, key text, fingerprint text,
  message_ids uuid[], created_at timestamptz)
where r.noun = 'idempotency_keys' order by r.position

-- name: put_workers
insert into workers (id, role, capabilities, capacity, status, alive_until, booked, reported, pulls, metadata,
  registered_at, heartbeat_at, idle_at)
select v.id, v.role, v.capabilities, v.capacity, v.status, v.alive_until, v.booked, v.reported, v.pulls, v.metadata,
  v.registered_at, v.heartbeat_at, v.idle_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id text, role text, capabilities text[], capacity integer,
  status text, alive_until timestamptz, booked integer, reported integer, pulls boolean, metadata text, registered_at
  timestamptz, heartbeat_at timestamptz, idle_at timestamptz)
where r.noun = 'workers' order by r.position

-- name: put_queue_messages
insert into queue_messages (agent_id, message_id, sender_id, type, priority, content, metadata, checksum, state,
  token, attempt, max_attempts, suspect, owner, run_at, expires_at, ended_as, reason, queued_at, created_at, claimed_at,
  settled_at)
select v.agent_id, v.message_id, v.sender_id, v.type, v.priority, v.content, v.metadata, v.checksum, v.state, v.token,
  v.attempt, v.max_attempts, v.suspect, v.owner, v.run_at, v.expires_at, v.ended_as, v.reason, v.queued_at, v.created_at,
  v.claimed_at, v.settled_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (agent_id text, message_id text, sender_id text, type text,
  priority smallint, content text, metadata text, checksum bigint, state text, token integer, attempt integer,
  max_attempts integer, suspect boolean, owner uuid, run_at timestamptz, expires_at timestamptz, ended_as text,
  reason text, queued_at timestamptz, created_at timestamptz, claimed_at timestamptz, settled_at timestamptz)
where r.noun = 'queue_messages' order by r.position

-- name: put_tasks
insert into tasks (id, type, description, needs, priority, content, checksum, message, is_assigned, supervisor,
  origin, state, token, attempt, max_attempts, suspect, worker_id, owner, run_limit, run_at, deadline_at, until_at,
  ended_as, reason, result, result_checksum, fraction, note, log, queued_at, created_at, assigned_at, settled_at, trace)
select v.id, v.type, v.description, v.needs, v.priority, v.content, v.checksum, v.message, v.is_assigned,
  v.supervisor, v.origin, v.state, v.token, v.attempt, v.max_attempts, v.suspect, v.worker_id, v.owner, v.run_limit,
  v.run_at, v.deadline_at, v.until_at, v.ended_as, v.reason, v.result, v.result_checksum, v.fraction, v.note, v.log,
  v.queued_at, v.created_at, v.assigned_at, v.settled_at, v.trace
from import_rows r
cross join lateral json_to_record(r.record::json) as v (id text, type text, description text, needs text[], priority
  smallint, content text, checksum bigint, message text, is_assigned boolean, supervisor text, origin uuid, state
  text, token integer, attempt integer, max_attempts integer, suspect boolean, worker_id text, owner uuid, run_limit
  float8, run_at timestamptz, deadline_at timestamptz, until_at timestamptz, ended_as text, reason text, result text,
  result_checksum bigint, fraction float8, note text, log jsonb, queued_at timestamptz, created_at timestamptz,
  assigned_at timestamptz, settled_at timestamptz, trace text)
where r.noun = 'tasks' order by r.position

-- name: put_schedules
insert into schedules (name, rule, zone, task, next_at, since_at, fired, fired_at, created_at)
select v.name, v.rule, v.zone, v.task, v.next_at, v.since_at, v.fired, v.fired_at, v.created_at
from import_rows r
cross join lateral json_to_record(r.record::json) as v (name text, rule text, zone text, task text, next_at
  timestamptz, since_at timestamptz, fired bigint, fired_at timestamptz, created_at timestamptz)
where r.noun = 'schedules' order by r.position

-- name: put_retention
update retention t set newest_pruned = greatest(t.newest_pruned, v.newest_pruned collate "C")
from import_rows r
cross join lateral json_to_record(r.record::json) as v (kind text, newest_pruned text)
where r.noun = 'retention' and v.kind = t.kind

-- name: find_foreign_meetings
-- The meetings of the organization that agents of others are in, and theirs that it is in.
select distinct p.meeting_id::text as id from participants p
join meetings t on t.id = p.meeting_id
join agents g on g.id = p.agent_id
join agents h on h.id = t.host_id
where g.organization_id <> h.organization_id and $1::text::uuid in (g.organization_id, h.organization_id)

-- name: count_crossing_messages
select count(*) as number from messages m
join agents s on s.id = m.sender_id
join agents r on r.id = m.recipient_id
where s.organization_id <> r.organization_id and $1::text::uuid in (s.organization_id, r.organization_id)

-- name: count_archive_rows
-- As the server estimates it: to count reads all of them.
select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint as number from pg_class c
where c.oid = any(array[
  'messages', 'deliveries', 'meeting_events', 'queue_messages', 'tasks', 'idempotency_keys'
]::regclass[]::oid[])

-- name: find_last_numbers
-- What is put in place behind these is what comes next.
select (select coalesce(max(seq), 0) from messages) as messages,
  (select coalesce(max(seq), 0) from meeting_events) as meeting_events,
  (select coalesce(max(seq), 0) from queue_messages) as queue_messages,
  (select coalesce(max(seq), 0) from tasks) as tasks

-- name: lock_imports
lock table imports in share row exclusive mode

-- name: find_import
select staged, finished_at from imports where archive = $1 for update

-- name: begin_import
insert into imports (archive, begun_at) values ($1, store_now())
on conflict (archive) do update set begun_at = excluded.begun_at

-- name: forget_imports
delete from imports where archive <> $1 and finished_at is null

-- name: reset_imports
update imports set staged = 0 where staged > 0

-- name: clear_import_rows
delete from import_rows

-- name: count_import_rows
select noun, count(*) as number from import_rows group by noun

-- name: stage_count
update imports set staged = $3::bigint where archive = $1 and staged = $2::bigint

-- name: stage_rows
insert into import_rows (noun, position, record)
select u.noun, u.position, u.record from unnest($1::text[], $2::bigint[], $3::text[]) u (noun, position, record)

-- name: list_import_rows
select p.position, p.record from (
  select r.position, r.record,
    sum(octet_length(r.record)) over (order by r.position rows between unbounded preceding and 1 preceding) as before
  from (
    select position, record from import_rows where noun = $1 and position > $2::bigint order by position limit $3
  ) r
) p where coalesce(p.before, 0) < $4::bigint order by p.position

-- name: end_import
update imports set finished_at = store_now(), staged = 0 where archive = $1

-- name: remove_import
delete from imports where archive = $1 and finished_at is null

-- name: taken_organizations
select distinct o.external_id as name from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, external_id text)
join organizations o on o.id = v.id or o.external_id = v.external_id
where r.noun = 'organizations' limit 10

-- name: taken_agents
select distinct a.external_id as name from import_rows r
cross join lateral json_to_record(r.record::json) as v (id uuid, external_id text)
cross join lateral (
  (select g.external_id from agents g where g.id = v.id)
  union all (select g.external_id from agents g where g.external_id = v.external_id)
) a
where r.noun = 'agents' limit 10

-- name: taken_workers
select w.id as name from import_rows r join workers w on w.id = r.record::json ->> 'id' where r.noun = 'workers' limit 10

-- name: taken_queue_messages
select q.message_id as name from import_rows r
join queue_messages q on q.agent_id = r.record::json ->> 'agent_id' and q.message_id = r.record::json ->> 'message_id'
where r.noun = 'queue_messages' limit 10

-- name: taken_tasks
select t.id as name from import_rows r join tasks t on t.id = r.record::json ->> 'id' where r.noun = 'tasks' limit 10

-- name: taken_schedules
select s.name from import_rows r join schedules s on s.name = r.record::json ->> 'name' where r.noun = 'schedules' limit 10
