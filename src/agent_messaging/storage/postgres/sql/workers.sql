-- Each listing selects the columns of a worker's record, in its order.

-- name: workers_find
select w.id, w.role, w.capabilities, w.capacity, w.status, w.alive_until > coalesce($2::timestamptz, store_now()) as is_alive,
  w.booked, w.reported, w.pulls, w.metadata, w.registered_at, w.heartbeat_at, w.idle_at
from unnest($1::text[]) as i (id) join workers w on w.id = i.id

-- name: workers_list
select w.id, w.role, w.capabilities, w.capacity, w.status, w.alive_until > coalesce($3::timestamptz, store_now()) as is_alive,
  w.booked, w.reported, w.pulls, w.metadata, w.registered_at, w.heartbeat_at, w.idle_at
from workers w order by w.id limit $1 offset $2

-- name: workers_find_available
-- The walk goes from one set of capabilities to the next by seeking, so a thousand workers that cannot do it cost as much as one.
with recursive kind as (
  (select w.capabilities from workers w where w.status in ('active', 'idle') order by w.capabilities limit 1)
  union all
  select next.capabilities from kind k cross join lateral (
    select w.capabilities from workers w
    where w.status in ('active', 'idle') and w.capabilities > k.capabilities
    order by w.capabilities limit 1
  ) next
)
select w.id, w.role, w.capabilities, w.capacity, w.status, true as is_alive, w.booked, w.reported, w.pulls, w.metadata,
  w.registered_at, w.heartbeat_at, w.idle_at
from kind k cross join lateral (
  select o.* from workers o
  where o.status in ('active', 'idle') and o.capabilities = k.capabilities
    and o.alive_until > coalesce($3::timestamptz, store_now())
  order by o.load, o.idle_at, o.id limit $2
) w
where k.capabilities @> $1::text[]
order by w.load, w.idle_at, w.id limit $2

-- name: workers_find_free
-- For each of the needs, which are arrays as JSON, those of its workers that stand first in the order in which tasks choose.
-- They are looked at again when they are locked (workers_lock). The walk is that of workers_find_available: the first of each
-- set of capabilities are the only ones that can be the first of all.
with recursive kind as (
  (select w.capabilities from workers w where w.status in ('active', 'idle') order by w.capabilities limit 1)
  union all
  select next.capabilities from kind k cross join lateral (
    select w.capabilities from workers w
    where w.status in ('active', 'idle') and w.capabilities > k.capabilities
    order by w.capabilities limit 1
  ) next
),
need as materialized (
  select array(select jsonb_array_elements_text(i.needs::jsonb)) as capabilities from unnest($1::text[]) as i (needs)
),
head as materialized (
  select k.capabilities, o.* from kind k cross join lateral (
    select w.id, w.load, w.idle_at from workers w
    where w.status in ('active', 'idle') and w.capabilities = k.capabilities and w.load < 1
      and w.alive_until > coalesce($3::timestamptz, store_now())
    order by w.load, w.idle_at, w.id limit $2
  ) o
  where exists (select from need n where k.capabilities @> n.capabilities)
)
select distinct w.id from need n cross join lateral (
  select h.id from head h where h.capabilities @> n.capabilities order by h.load, h.idle_at, h.id limit $2
) w

-- name: workers_lock
-- PostgreSQL alone: whoever changes what a worker has locks the worker first, so that what is counted stays true.
select from workers where id = any($1::text[]) order by id for update

-- name: workers_assign_lock
-- PostgreSQL alone: one at a time chooses workers, so that nobody passes over one that another only looks at.
select pg_advisory_xact_lock(hashtextextended('agent-messaging assign ' || current_schema(), 0))

-- name: workers_register
insert into workers (id, role, capabilities, capacity, status, alive_until, pulls, metadata, registered_at, heartbeat_at,
  idle_at)
select $1, $2, $3::text[], $4, 'active', t.now + make_interval(secs => $5::float8), $6, $7, t.now, t.now, t.now
from (select coalesce($8::timestamptz, store_now()) as now) t
on conflict (id) do update set role = excluded.role, capabilities = excluded.capabilities, capacity = excluded.capacity,
  status = 'active', alive_until = excluded.alive_until, reported = 0, pulls = excluded.pulls,
  metadata = excluded.metadata, heartbeat_at = excluded.heartbeat_at
returning xmax = 0 as is_new

-- name: workers_serve
insert into worker_processes (worker_id, process_id)
select w.id, $2::text::uuid from unnest($1::text[]) as i (id) join workers w on w.id = i.id
where w.pulls and not exists (select from processes where id = $2::text::uuid and ended_at is not null)
on conflict do nothing

-- name: workers_beat
update workers w set alive_until = t.now + make_interval(secs => i.ttl), heartbeat_at = t.now,
  status = coalesce(i.status, case w.status when 'offline' then 'active' else w.status end),
  reported = coalesce(i.reported, w.reported)
from (select coalesce($5::timestamptz, store_now()) as now) t
cross join unnest($1::text[], $2::float8[], $3::text[], $4::integer[]) as i (id, ttl, status, reported)
where w.id = i.id

-- name: workers_leave
delete from worker_processes where process_id = any($1::text[]::uuid[]) and ($2::text is null or worker_id = $2)

-- name: workers_find_left
-- The workers that nobody serves once these processes have left.
select distinct p.worker_id from worker_processes p
where p.process_id = any($1::text[]::uuid[]) and ($2::text is null or p.worker_id = $2)
  and not exists (
    select from worker_processes o where o.worker_id = p.worker_id and o.process_id <> all($1::text[]::uuid[])
  )

-- name: workers_offline
update workers set status = 'offline' where id = any($1::text[])

-- name: workers_remove
delete from workers where id = any($1::text[])

-- name: workers_find_stale
select w.id from workers w where w.alive_until <= coalesce($2::timestamptz, store_now()) order by w.alive_until limit $1

-- name: workers_count
select count_workers($1::text[], coalesce($2::timestamptz, store_now()))

-- name: workers_find_pullers
-- The processes that could take what is put into the pool.
select process_id from find_pullers() as process_id

-- name: workers_find_processes
select distinct p.process_id::text from unnest($1::text[]) as i (id) join worker_processes p on p.worker_id = i.id

-- name: workers_statistics
select count(*) as total, count(*) filter (where w.alive_until > t.now) as alive,
  coalesce((select jsonb_object_agg(c.role, c.number) from (
    select role, count(*) as number from workers group by role
  ) c), '{}')::text as by_role,
  coalesce((select jsonb_object_agg(c.status, c.number) from (
    select status, count(*) as number from workers group by status
  ) c), '{}')::text as by_status,
  coalesce(sum(greatest(w.booked, w.reported)) filter (where w.alive_until > t.now), 0)::integer as busy,
  coalesce(sum(w.capacity) filter (where w.alive_until > t.now), 0)::integer as capacity,
  coalesce(avg(w.load) filter (where w.alive_until > t.now), 0.0)::float8 as load
from workers w, (select coalesce($1::timestamptz, store_now()) as now) t
