-- name: tasks_insert
select id from store_tasks($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::bigint[],
  $8::text[], $9::boolean[], $10::text[], $11::integer[], $12::float8[], $13::float8[], $14::float8[], $15::text[],
  $16::integer[], $17::integer[], $18::text[], $19::text[], $20::text, coalesce($21::timestamptz, store_now())) as id

-- name: tasks_submit
-- PostgreSQL alone: tasks_insert, and who could take them, in one round trip. The transaction waits only a moment ($21,
-- milliseconds; null: as long as any) for somebody who is storing a task of the same id, for whom other calls would wait too.
select stored, pullers from submit_tasks($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[],
  $7::bigint[], $8::text[], $9::boolean[], $10::text[], $11::integer[], $12::float8[], $13::float8[], $14::float8[],
  $15::text[], $16::integer[], $17::integer[], $18::text[], $19::text[], $20::text, $21::text,
  coalesce($22::timestamptz, store_now()))

-- name: tasks_find_held
-- What judging needs, in the order of `workload.held_task`. `limit 1` here and below: see lock_workers.
select t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id, t.owner::text, t.origin::text, t.suspect
from unnest($1::text[]) as i (id) cross join lateral (select * from tasks x where x.id = i.id limit 1) t

-- name: tasks_lock
-- PostgreSQL alone: what was found is locked, and what it was may be old.
select t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id, t.owner::text, t.origin::text, t.suspect
from tasks t where t.seq = any($1::bigint[])
order by t.seq + 0 for update of t

-- name: tasks_lock_named
-- PostgreSQL alone: the same, locked behind their workers, and behind those ($2) that are about to take some.
select * from lock_tasks($1::text[], $2::text[])

-- name: tasks_find_of_workers
-- What these workers have, as tasks_find_held.
select t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id, t.owner::text, t.origin::text, t.suspect
from tasks t where t.worker_id = any($1::text[]) and t.state in ('assigned', 'running')

-- name: tasks_find_of_processes
-- What these processes run, as tasks_find_held.
select t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id, t.owner::text, t.origin::text, t.suspect
from tasks t where t.owner = any($1::text[]::uuid[]) and t.state = 'running'

-- name: tasks_find_overdue
-- Those that take too long, and those that were assigned to a worker that is told of its tasks and is no longer alive.
select t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id, t.owner::text, t.origin::text, t.suspect
from (
  (select u.seq from tasks u
   where u.state in ('assigned', 'running') and u.until_at is not null
     and u.until_at <= coalesce($2::timestamptz, store_now())
   order by u.until_at limit $1)
  union
  (select u.seq from workers w join tasks u on u.worker_id = w.id and u.state in ('assigned', 'running')
   where not w.pulls and w.booked > 0 and w.alive_until <= coalesce($2::timestamptz, store_now())
   limit $1)
) found join tasks t on t.seq = found.seq

-- name: tasks_find_late
-- Those whose deadline has passed, as tasks_find_held.
select t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id, t.owner::text, t.origin::text, t.suspect
from tasks t
where t.state in ('queued', 'assigned', 'running') and t.deadline_at is not null
  and t.deadline_at <= coalesce($2::timestamptz, store_now())
order by t.deadline_at limit $1

-- name: tasks_next
-- Many changes of the counts wait to be added to the sums: then it is time too.
select extract(epoch from least(
  (select min(until_at) from tasks where state in ('assigned', 'running') and until_at is not null),
  (select min(deadline_at) from tasks where state in ('queued', 'assigned', 'running') and deadline_at is not null),
  (select min(run_at) from tasks where state = 'queued' and run_at is not null),
  (select min(alive_until) from workers where not pulls and booked > 0),
  (select coalesce($1::timestamptz, store_now()) from (select from task_counts where not is_sum limit 1001) as changes
   having count(*) > 1000)
) - coalesce($1::timestamptz, store_now()))::float8 as next_in

-- name: tasks_due
with due as materialized (
  select t.seq from tasks t
  where t.state = 'queued' and t.run_at is not null and t.run_at <= coalesce($2::timestamptz, store_now())
  order by t.run_at limit $1
  for update of t skip locked
)
update tasks t set queued_at = t.run_at, run_at = null from due where t.seq = due.seq

-- name: tasks_end
select end_tasks($1::bigint[], $2::text[], $3::integer[], $4::float8[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::bigint[], $10::boolean[], $11::boolean[], $12::text[], coalesce($13::timestamptz, store_now()))

-- name: tasks_find_to_assign
-- The first of those whose needs a free worker covers: so those that nobody can do hinder no other. The walks go from one set of
-- needs, or of capabilities, to the next by seeking.
with recursive kind as (
  (select w.capabilities from workers w where w.status in ('active', 'idle') order by w.capabilities limit 1)
  union all
  select next.capabilities from kind k cross join lateral (
    select w.capabilities from workers w
    where w.status in ('active', 'idle') and w.capabilities > k.capabilities
    order by w.capabilities limit 1
  ) next
),
free as materialized (
  select k.capabilities from kind k where exists (
    select from workers o
    where o.status in ('active', 'idle') and o.capabilities = k.capabilities and o.load < 1
      and o.alive_until > coalesce($2::timestamptz, store_now())
  )
),
walk as (
  (select t.needs from tasks t where t.state = 'queued' and t.run_at is null and t.is_assigned order by t.needs limit 1)
  union all
  select next.needs from walk w cross join lateral (
    select t.needs from tasks t
    where t.needs > w.needs and t.state = 'queued' and t.run_at is null and t.is_assigned
    order by t.needs limit 1
  ) next
)
select t.seq, t.id, t.needs, t.token, t.attempt, t.run_limit, t.message
from walk w cross join lateral (
  select t.* from tasks t
  where t.needs = w.needs and t.state = 'queued' and t.run_at is null and t.is_assigned
    and (t.deadline_at is null or t.deadline_at > coalesce($2::timestamptz, store_now()))
  order by t.priority, t.seq + 0 limit $1
) t
where exists (select from free f where f.capabilities @> w.needs)
order by t.priority, t.seq limit $1

-- name: tasks_lock_to_assign
-- PostgreSQL alone: of what was found what still waits, and nobody else is about to take.
select t.seq from tasks t where t.seq = any($1::bigint[]) and t.state || '' = 'queued' and (t.run_at is null) is true
order by t.seq + 0 for update of t skip locked

-- name: tasks_assign
with moment as materialized (
  select coalesce($5::timestamptz, store_now()) as now
)
update tasks t set state = 'assigned', worker_id = i.worker_id, token = i.token, attempt = i.attempt,
  until_at = m.now + make_interval(secs => t.run_limit), owner = null, ended_as = null, assigned_at = m.now, fraction = 0,
  note = null
from moment m cross join unnest($1::bigint[], $2::text[], $3::integer[], $4::integer[]) as i (seq, worker_id, token, attempt)
where t.seq = i.seq

-- name: tasks_find_takers
-- Of these workers those that are known. (Whether the process has ended is asked where it takes: exchange_tasks.)
select w.id, w.capacity, w.booked, w.capabilities from unnest($1::text[]) as i (id) join workers w on w.id = i.id

-- name: tasks_find_takeable
-- For each request what is assigned to the worker, then of the pool what it can do.
select * from find_takeable($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer,
  coalesce($7::timestamptz, store_now()))

-- name: tasks_exchange
-- PostgreSQL alone: what a transaction does is one step, so that the client waits once. Writes ends, as tasks_end, and locks
-- for each request the first of what its worker may take.
select * from exchange_tasks($1::bigint[], $2::text[], $3::integer[], $4::float8[], $5::text[], $6::text[], $7::text[],
  $8::text[], $9::bigint[], $10::boolean[], $11::boolean[], $12::text[], $13::text[], $14::integer[], $15::text[], $16::text[],
  $17::integer, $18::text, coalesce($19::timestamptz, store_now()))

-- name: tasks_exchange_plain
-- PostgreSQL alone: a page of runs that are done, and of tasks for one worker, is one round trip.
select * from exchange_plain_tasks($1::text[], $2::integer[], $3::text[], $4::bigint[], $5::text[], $6::integer[], $7::text[],
  $8::text[], $9::float8[], $10::integer, $11::text, $12::float8, coalesce($13::timestamptz, store_now()))

-- name: tasks_find_suspect
-- Whether this process runs a task whose process died before.
select exists (select from tasks where state = 'running' and owner = $1::text::uuid and suspect) as has_suspect

-- name: tasks_take
select * from take_tasks($1::bigint[], $2::text[], $3::float8[], $4::text, $5::float8, coalesce($6::timestamptz, store_now()))

-- name: tasks_lock_takers
-- PostgreSQL alone: waits until nobody is about to take for a worker of this process.
select from workers w where w.id in (select p.worker_id from worker_processes p where p.process_id = $1::text::uuid)
order by w.id for update

-- name: tasks_list_claims
select id, token from tasks where state = 'running' and owner = $1::text::uuid

-- name: tasks_progress
update tasks t set fraction = i.fraction, note = i.note
from unnest($1::bigint[], $2::float8[], $3::text[]) as i (seq, fraction, note)
where t.seq = i.seq

-- name: tasks_reprioritise
update tasks set priority = $2 where seq = any($1::bigint[])

-- name: tasks_redrive
with failed as materialized (
  select t.seq from tasks t
  where lower(t.state) = 'failed' and t.state not in ('assigned', 'running')
    and ($1::text[] is null or t.id = any($1)) and ($2::text is null or t.type = $2)
  order by t.seq + 0 for update of t
),
moment as materialized (
  select coalesce($3::timestamptz, store_now()) as now
)
update tasks t set state = 'queued', attempt = 0, suspect = false, run_at = null, queued_at = m.now, deadline_at = null,
  result = null, result_checksum = null, fraction = 0, note = null, settled_at = null,
  log = coalesce(t.log, '[]') || jsonb_build_array(jsonb_build_object(
    'at', m.now, 'event', 'redriven', 'attempt', t.attempt, 'worker', t.worker_id, 'reason', null))
from failed f cross join moment m where t.seq = f.seq
returning t.id

-- name: tasks_find
select t.id, t.type, t.description, t.needs, t.priority, t.content, t.checksum, t.supervisor, t.state, t.worker_id, t.token,
  t.attempt, t.max_attempts, t.owner::text, t.origin::text, t.result, t.result_checksum, t.reason, t.fraction, t.note,
  t.created_at, t.deadline_at, t.assigned_at, t.settled_at, t.log
from unnest($1::text[]) as i (id) cross join lateral (select * from tasks x where x.id = i.id limit 1) t

-- name: tasks_find_ended
-- Each id with its end, if it has ended, and with nulls if it does not exist.
select i.id, t.state, t.reason, t.result, t.result_checksum
from unnest($1::text[]) as i (id) left join lateral (select * from tasks x where x.id = i.id limit 1) t on true
where t.id is null or t.state in ('done', 'failed', 'cancelled', 'expired')

-- name: tasks_find_place
-- Where a step of a page ends that looks at $5 tasks below $4 in the indexes that $3 names (`workload.way_of`); null: there are
-- no more. Of several lists it is where the first one ends: the rest of the others is for the next step.
select max(l.seq) as seq from (
  (select t.seq from tasks t
   where $3::text = 'all' and t.seq < $4::bigint
   order by t.seq desc limit 1 offset $5::bigint - 1)
  union all
  (select s.seq from unnest($1::text[]) as wanted (state) cross join lateral (
     select t.seq from tasks t
     where $3 = 'states' and t.state not in ('assigned', 'running') and lower(t.state) = wanted.state
       and -t.seq > -$4
     order by -t.seq limit 1 offset $5 - 1
   ) s)
  union all
  (select t.seq from tasks t
   where $3 = 'supervisor' and t.supervisor = $2 and t.seq + 0 < $4
   order by t.seq + 0 desc limit 1 offset $5 - 1)
  union all
  (select t.seq from tasks t
   where $3 = 'open' and t.supervisor = $2 and t.state in ('queued', 'assigned', 'running') and t.seq + 0 < $4
   order by t.seq + 0 desc limit 1 offset $5 - 1)
) l

-- name: tasks_list
-- A page, or a step of one, from $8 to below $9, by the indexes that $5 names (`workload.way_of`). Each row says how many it
-- found, what is passed over included; where there are none, one row does.
with found as materialized (
  select l.seq from (
    (select t.seq from tasks t
     where $5 = 'all' and t.seq < $9::bigint and t.seq >= $8::bigint
       and ($2::text is null or t.type = $2) and ($3::text is null or t.worker_id = $3)
     order by t.seq desc limit $6::bigint + $7)
    union all
    (select s.seq from unnest($1::text[]) as wanted (state) cross join lateral (
       select t.seq from tasks t
       where $5 = 'states' and t.state not in ('assigned', 'running') and lower(t.state) = wanted.state
         and -t.seq > -$9 and -t.seq <= -$8
         and ($2::text is null or t.type = $2) and ($3::text is null or t.worker_id = $3)
       order by -t.seq limit $6::bigint + $7
     ) s)
    union all
    (select t.seq from tasks t
     where $5 = 'states' and t.state in ('assigned', 'running') and t.state = any($1)
       and t.seq + 0 < $9 and t.seq + 0 >= $8
       and ($2::text is null or t.type = $2) and ($3::text is null or t.worker_id = $3)
     order by t.seq + 0 desc limit $6::bigint + $7)
    union all
    (select t.seq from tasks t
     where $5 = 'supervisor' and t.supervisor = $4 and ($1::text[] is null or t.state = any($1))
       and t.seq + 0 < $9 and t.seq + 0 >= $8
       and ($2::text is null or t.type = $2) and ($3::text is null or t.worker_id = $3)
     order by t.seq + 0 desc limit $6::bigint + $7)
    union all
    (select t.seq from tasks t
     where $5 = 'open' and t.supervisor = $4 and t.state in ('queued', 'assigned', 'running') and t.state = any($1)
       and t.seq + 0 < $9 and t.seq + 0 >= $8
       and ($2::text is null or t.type = $2) and ($3::text is null or t.worker_id = $3)
     order by t.seq + 0 desc limit $6::bigint + $7)
  ) l
  order by l.seq desc limit $6::bigint + $7
)
select t.id, t.type, t.description, t.needs, t.priority, t.content, t.checksum, t.supervisor, t.state, t.worker_id, t.token,
  t.attempt, t.max_attempts, t.owner::text, t.origin::text, t.result, t.result_checksum, t.reason, t.fraction, t.note,
  t.created_at, t.deadline_at, t.assigned_at, t.settled_at, t.log, t.seq, step.number
from (select count(*) as number from found) step
left join lateral (
  select o.* from (select seq from found order by seq desc limit $6 offset $7) page join tasks o on o.seq = page.seq
) t on true
order by t.seq + 0 desc

-- name: tasks_fold_counts
-- PostgreSQL alone: on SQLite nobody waits for a row of counts. Adds the newest changes to the sums.
with changes as (
  delete from task_counts c
  where c.ctid = any(array(select o.ctid from task_counts o where not o.is_sum limit 10000 for update skip locked))
  returning c.supervisor, c.state, c.number
)
insert into task_counts as s (supervisor, state, number, is_sum)
select c.supervisor, c.state, sum(c.number), true from changes c
group by c.supervisor, c.state having sum(c.number) <> 0
order by c.supervisor, c.state
on conflict (supervisor, state) where is_sum do update set number = s.number + excluded.number

-- name: tasks_forget_counts
-- PostgreSQL alone: a trigger of SQLite does it.
delete from task_counts where ctid = any(array(
  select s.ctid from task_counts s where s.is_sum and s.number = 0 for update skip locked
))

-- name: tasks_statistics
-- It reads no more where there are more tasks: the counts are kept, the newest ends come by an index, and the oldest that
-- waits is the first of a group and priority.
with recursive walk as (
  (select t.needs, t.type from tasks t where $1::text is null and t.state = 'queued' and t.run_at is null
   order by t.needs, t.type limit 1)
  union all
  select next.needs, next.type from walk w cross join lateral (
    select t.needs, t.type from tasks t
    where (t.needs, t.type) > (w.needs, w.type) and t.state = 'queued' and t.run_at is null
    order by t.needs, t.type limit 1
  ) next
),
kind (suspect, priority) as (select s, p from (values (false), (true)) a (s), generate_series(0, 4) p)
select
  (select jsonb_object_agg(c.state, c.number) from (
    select state, sum(number) as number from task_counts where $1::text is null or supervisor = $1
    group by state having sum(number) <> 0
  ) c)::text as counts,
  (select extract(epoch from avg(d.settled_at - d.assigned_at))::float8 from (
    (select settled_at, assigned_at from tasks
     where $1::text is null and state = 'done' and settled_at is not null and assigned_at is not null
     order by settled_at desc limit 1000)
    union all
    (select settled_at, assigned_at from tasks
     where supervisor = $1 and state = 'done' and settled_at is not null and assigned_at is not null
     order by settled_at desc limit 1000)
  ) d) as duration,
  extract(epoch from coalesce($2::timestamptz, store_now()) - (
    select min(x.created_at) from (
      select t.created_at from walk w cross join kind k cross join lateral (
        select q.created_at from tasks q
        where q.needs = w.needs and q.type = w.type and q.suspect = k.suspect and q.priority = k.priority
          and q.state = 'queued' and q.run_at is null
        order by q.seq + 0 limit 1
      ) t
      union all
      (select q.created_at from tasks q
       where q.supervisor = $1 and q.state in ('queued', 'assigned', 'running') and q.state = 'queued' and q.run_at is null
       order by q.seq + 0 limit 1)
    ) x
  ))::float8 as age

-- name: tasks_prune
with old as materialized (
  select t.seq from tasks t
  where t.seq = any(array(
    select s.seq from unnest(array['done', 'failed', 'cancelled', 'expired']) as final (state) cross join lateral (
      select o.seq, o.settled_at from tasks o
      where o.state = final.state and o.settled_at is not null
        and o.settled_at < coalesce($4::timestamptz, store_now()) - make_interval(secs => $1::float8)
      order by o.settled_at limit $2
    ) s
    where $3::text[] is null or final.state = any($3)
    order by s.settled_at limit $2
  ))
  for update of t skip locked
)
delete from tasks t using old where t.seq = old.seq

-- name: tasks_measure
select count(*) as number, coalesce(sum(
  octet_length(t.content) + octet_length(t.description) + coalesce(octet_length(t.result), 0)
  + coalesce(octet_length(t.log::text), 0)
), 0)::bigint as size_bytes
from tasks t
where t.settled_at is not null and t.state in ('done', 'failed', 'cancelled', 'expired')
  and t.settled_at < coalesce($3::timestamptz, store_now()) - make_interval(secs => $1::float8)
  and ($2::text[] is null or t.state = any($2))
