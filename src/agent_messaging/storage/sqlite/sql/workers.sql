-- Each listing selects (id, role, capabilities, capacity, status, 1 if alive, booked, reported, pulls, metadata,
-- registered_at, heartbeat_at, idle_at).

-- name: workers_find
select json_group_array(json_array(w.id, w.role, w.capabilities, w.capacity, w.status, w.alive_until_due > :now, w.booked,
  w.reported, w.pulls, w.metadata, w.registered_at, w.heartbeat_at, w.idle_at))
from jsonb_each(:ids) as wanted cross join workers as w on w.id = wanted.value

-- name: workers_list
select json_group_array(json_array(id, role, capabilities, capacity, status, alive_until_due > :now, booked, reported, pulls,
  metadata, registered_at, heartbeat_at, idle_at))
from (select * from workers order by id limit :limit offset :offset)

-- name: workers_find_available
-- The walk goes from one set of capabilities to the next by seeking, so a thousand workers that cannot do it cost as much as one.
with recursive kind (capabilities) as (
  select min(capabilities) from workers indexed by workers_in_order where status in ('active', 'idle')
  union all
  select (
    select min(w.capabilities) from workers as w indexed by workers_in_order
    where w.status in ('active', 'idle') and w.capabilities > k.capabilities
  ) from kind as k where k.capabilities is not null
)
select json_group_array(json_array(id, role, capabilities, capacity, status, 1, booked, reported, pulls, metadata,
  registered_at, heartbeat_at, idle_at))
from (
  select w.* from kind as k cross join workers as w on w.id in (
    select id from workers as one indexed by workers_in_order
    where one.status in ('active', 'idle') and one.capabilities = k.capabilities and one.alive_until_due > :now
    order by one.load, one.idle_at, one.id limit :limit
  )
  where json_valid(k.capabilities) and not exists (
    select value from json_each(:needs)
    except select value from json_each(iif(json_valid(k.capabilities), k.capabilities, '[]'))
  )
  order by w.load, w.idle_at, w.id limit :limit
)

-- name: workers_find_free
-- For each of the needs those of its workers that stand first in the order in which tasks choose; no others can be chosen. The
-- walk is that of workers_find_available: the first of each set of capabilities are the only ones that can be the first of all.
with recursive kind (capabilities) as (
  select min(capabilities) from workers indexed by workers_in_order where status in ('active', 'idle')
  union all
  select (
    select min(w.capabilities) from workers as w indexed by workers_in_order
    where w.status in ('active', 'idle') and w.capabilities > k.capabilities
  ) from kind as k where k.capabilities is not null
),
able as materialized (
  select k.capabilities, need.key as need from kind as k cross join jsonb_each(:needs) as need
  where json_valid(k.capabilities) and not exists (
    select value from json_each(need.value)
    except select value from json_each(iif(json_valid(k.capabilities), k.capabilities, '[]'))
  )
),
head as materialized (
  select a.need, w.id, w.load, w.idle_at from able as a cross join workers as w on w.id in (
    select id from workers as one indexed by workers_in_order
    where one.status in ('active', 'idle') and one.capabilities = a.capabilities and one.load < 1
      and one.alive_until_due > :now
    order by one.load, one.idle_at, one.id limit :most
  )
),
place as (select id, row_number() over (partition by need order by load, idle_at, id) as number from head)
select json_group_array(json_array(w.id, w.role, w.capabilities, w.capacity, w.status, 1, w.booked, w.reported, w.pulls,
  w.metadata, w.registered_at, w.heartbeat_at, w.idle_at))
from (select distinct id from place where number <= :most) as p cross join workers as w on w.id = p.id

-- name: workers_register
insert into workers (id, role, capabilities, capacity, status, alive_until_due, pulls, metadata, registered_at,
  heartbeat_at, idle_at)
values (:id, :role, :capabilities, :capacity, 'active', :until, :pulls, :metadata, :at, :at, :at)
on conflict (id) do update set role = excluded.role, capabilities = excluded.capabilities, capacity = excluded.capacity,
  status = 'active', alive_until_due = excluded.alive_until_due, reported = 0, pulls = excluded.pulls,
  metadata = excluded.metadata, heartbeat_at = excluded.heartbeat_at

-- name: workers_serve
insert into worker_processes (worker_id, process_id)
select w.id, :process from jsonb_each(:ids) as wanted cross join workers as w on w.id = wanted.value
where w.pulls = 1 and not exists (select 1 from processes where id = :process and ended_at is not null)
on conflict do nothing

-- name: workers_beat
-- :rows are (id, alive_until_due, status, reported).
update workers set alive_until_due = beat.until, heartbeat_at = :at,
  status = coalesce(beat.status, iif(workers.status = 'offline', 'active', workers.status)),
  reported = coalesce(beat.reported, workers.reported)
from (
  select value ->> 0 as id, value ->> 1 as until, value ->> 2 as status, value ->> 3 as reported from jsonb_each(:rows)
) as beat
where workers.id = beat.id

-- name: workers_leave
delete from worker_processes where process_id in (select value from jsonb_each(:processes))
  and (:worker is null or worker_id = :worker)

-- name: workers_find_left
-- The workers that nobody serves once these processes have left.
select json_group_array(distinct p.worker_id) from worker_processes as p
where p.process_id in (select value from jsonb_each(:processes)) and (:worker is null or p.worker_id = :worker)
  and not exists (
    select 1 from worker_processes as o
    where o.worker_id = p.worker_id and o.process_id not in (select value from jsonb_each(:processes))
  )

-- name: workers_offline
update workers set status = 'offline' where id in (select value from jsonb_each(:ids))

-- name: workers_remove
delete from workers where id in (select value from jsonb_each(:ids))

-- name: workers_find_stale
select json_group_array(id) from (
  select id from workers where alive_until_due <= :now order by alive_until_due limit :limit
)

-- name: workers_count
-- Counted anew in place of counted on: so the number is right whatever happened.
update workers set booked = held.number, idle_at = iif(held.number < booked, :at, idle_at)
from (
  select wanted.value as id, (
    select count(*) from tasks where worker_id = wanted.value and state in ('assigned', 'running')
  ) as number
  from jsonb_each(:ids) as wanted
) as held
where workers.id = held.id and workers.booked <> held.number

-- name: workers_find_pullers
-- The processes that could take what is put into the pool.
with recursive walk (process_id) as (
  select min(process_id) from worker_processes
  union all
  select (select min(p.process_id) from worker_processes as p where p.process_id > w.process_id)
  from walk as w where w.process_id is not null
)
select json_group_array(process_id) from walk where process_id is not null

-- name: workers_find_processes
select json_group_array(distinct p.process_id) from jsonb_each(:ids) as wanted
cross join worker_processes as p on p.worker_id = wanted.value

-- name: workers_statistics
select json_array(
  count(*), count(*) filter (where alive_until_due > :now),
  json((select json_group_object(role, number) from (select role, count(*) as number from workers group by role))),
  json((select json_group_object(status, number) from (select status, count(*) as number from workers group by status))),
  coalesce(sum(max(booked, reported)) filter (where alive_until_due > :now), 0),
  coalesce(sum(capacity) filter (where alive_until_due > :now), 0),
  coalesce(avg(load) filter (where alive_until_due > :now), 0.0)
)
from workers
