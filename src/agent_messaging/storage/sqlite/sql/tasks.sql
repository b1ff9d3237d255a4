-- name: tasks_insert
-- :rows are (id, type, description, needs, priority, content, checksum, message, is_assigned, supervisor, max_attempts,
-- run_limit, run_due, deadline_due, deadline_at, state, token, attempt, worker, until_due, trace), in the order of the call.
insert into tasks (id, type, description, needs, priority, content, checksum, message, is_assigned, supervisor, max_attempts,
  run_limit, run_due, deadline_due, deadline_at, state, token, attempt, worker_id, until_due, trace, origin, queued_due,
  created_at, assigned_at)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
  value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, value ->> 17,
  value ->> 18, value ->> 19, value ->> 20, :origin, max(:now, value ->> 12), :at, iif(value ->> 18 is null, null, :at)
from jsonb_each(:rows) order by key

-- name: tasks_find_held
-- What judging needs: (id, seq, state, token, attempt, max_attempts, ended_as, worker, owner, origin, suspect).
select json_group_array(json_array(t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id,
  t.owner, t.origin, t.suspect))
from jsonb_each(:ids) as wanted cross join tasks as t on t.id = wanted.value

-- name: tasks_find_of_workers
-- What these workers have, as tasks_find_held.
select json_group_array(json_array(t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id,
  t.owner, t.origin, t.suspect))
from jsonb_each(:ids) as wanted
cross join tasks as t indexed by tasks_held on t.worker_id = wanted.value and t.state in ('assigned', 'running')

-- name: tasks_find_of_processes
-- What these processes run, as tasks_find_held.
select json_group_array(json_array(t.id, t.seq, t.state, t.token, t.attempt, t.max_attempts, t.ended_as, t.worker_id,
  t.owner, t.origin, t.suspect))
from jsonb_each(:owners) as wanted
cross join tasks as t indexed by tasks_run on t.owner = wanted.value and t.state = 'running'

-- name: tasks_find_overdue
-- Those that take too long, and those that were assigned to a worker that is told of its tasks and is no longer alive.
select json_group_array(json_array(id, seq, state, token, attempt, max_attempts, ended_as, worker_id, owner, origin, suspect))
from (
  select * from (
    select * from tasks indexed by tasks_until
    where state in ('assigned', 'running') and until_due is not null and until_due <= :now limit :limit
  )
  union
  select * from (
    select t.* from workers as w indexed by workers_told
    cross join tasks as t indexed by tasks_held on t.worker_id = w.id and t.state in ('assigned', 'running')
    where w.pulls = 0 and w.booked > 0 and w.alive_until_due <= :now limit :limit
  )
)

-- name: tasks_find_late
-- Those whose deadline has passed, as tasks_find_held.
select json_group_array(json_array(id, seq, state, token, attempt, max_attempts, ended_as, worker_id, owner, origin, suspect))
from (
  select * from tasks indexed by tasks_deadline
  where state in ('queued', 'assigned', 'running') and deadline_due is not null and deadline_due <= :now
  order by deadline_due limit :limit
)

-- name: tasks_next
select json_array(
  (select min(until_due) from tasks indexed by tasks_until
   where state in ('assigned', 'running') and until_due is not null),
  (select min(deadline_due) from tasks indexed by tasks_deadline
   where state in ('queued', 'assigned', 'running') and deadline_due is not null),
  (select min(run_due) from tasks indexed by tasks_scheduled where state = 'queued' and run_due > 0),
  (select min(alive_until_due) from workers indexed by workers_told where pulls = 0 and booked > 0)
)

-- name: tasks_due
update tasks set queued_due = run_due, run_due = 0 where seq in (
  select seq from tasks where state = 'queued' and run_due > 0 and run_due <= :now order by run_due limit :limit
)

-- name: tasks_end
-- :rows are (seq, state, attempt, run_due, how it ended, reason, event, result, its checksum, 1 if that is final, suspect).
update tasks set state = moved.state, attempt = moved.attempt, run_due = moved.run_due, suspect = moved.suspect,
  until_due = null,
  queued_due = max(:now, moved.run_due), ended_as = moved.ended_as, reason = moved.reason, result = moved.result,
  result_checksum = moved.result_checksum, fraction = iif(moved.state = 'done', 1.0, fraction),
  settled_at = iif(moved.final, :at, null), settled_due = iif(moved.final, :now, null),
  log = iif(moved.event is null, log, json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at,
    'event', moved.event, 'attempt', tasks.attempt, 'worker', worker_id, 'reason', moved.reason)))
from (
  select value ->> 0 as seq, value ->> 1 as state, value ->> 2 as attempt, value ->> 3 as run_due, value ->> 4 as ended_as,
    value ->> 5 as reason, value ->> 6 as event, value ->> 7 as result, value ->> 8 as result_checksum, value ->> 9 as final,
    value ->> 10 as suspect
  from jsonb_each(:rows)
) as moved
where tasks.seq = moved.seq

-- name: tasks_find_to_assign
-- The first of those whose needs a free worker covers: so those that nobody can do hinder no other. The walks go from one set of
-- needs, or of capabilities, to the next by seeking.
with recursive kind (capabilities) as (
  select min(capabilities) from workers indexed by workers_in_order where status in ('active', 'idle')
  union all
  select (
    select min(w.capabilities) from workers as w indexed by workers_in_order
    where w.status in ('active', 'idle') and w.capabilities > k.capabilities
  ) from kind as k where k.capabilities is not null
),
free (capabilities) as materialized (
  select k.capabilities from kind as k where json_valid(k.capabilities) and exists (
    select 1 from workers as one indexed by workers_in_order
    where one.status in ('active', 'idle') and one.capabilities = k.capabilities and one.load < 1
      and one.alive_until_due > :now
  )
),
walk (needs) as (
  select min(needs) from tasks indexed by tasks_to_assign where state = 'queued' and run_due = 0 and is_assigned = 1
  union all
  select (
    select min(t.needs) from tasks as t indexed by tasks_to_assign
    where t.needs > w.needs and t.state = 'queued' and t.run_due = 0 and t.is_assigned = 1
  ) from walk as w where w.needs is not null
)
select json_group_array(json_array(seq, id, needs, token, attempt, run_limit, message)) from (
  select t.* from walk as w cross join tasks as t on t.seq in (
    select seq from tasks indexed by tasks_to_assign
    where needs = w.needs and state = 'queued' and run_due = 0 and is_assigned = 1
      and (deadline_due is null or deadline_due > :now)
    order by priority, seq limit :limit
  )
  where json_valid(w.needs) and exists (
    select 1 from free where not exists (
      select value from json_each(w.needs) except select value from json_each(free.capabilities)
    )
  )
  order by t.priority, t.seq limit :limit
)

-- name: tasks_assign
-- :rows are (seq, worker, token, attempt, until_due).
update tasks set state = 'assigned', worker_id = booked.worker_id, token = booked.token, attempt = booked.attempt,
  until_due = booked.until_due, owner = null, ended_as = null, assigned_at = :at, fraction = 0, note = null
from (
  select value ->> 0 as seq, value ->> 1 as worker_id, value ->> 2 as token, value ->> 3 as attempt, value ->> 4 as until_due
  from jsonb_each(:rows)
) as booked
where tasks.seq = booked.seq

-- name: tasks_find_takers
-- Of these workers those that are known, and may be given something by a process that has not ended: (id, capacity, what
-- they have, capabilities).
select json_group_array(json_array(w.id, w.capacity, w.booked, iif(json_valid(w.capabilities), w.capabilities, '[]')))
from jsonb_each(:ids) as wanted cross join workers as w on w.id = wanted.value
where :owner is null or not exists (select 1 from processes where id = :owner and ended_at is not null)

-- name: tasks_find_takeable
-- :requests are (worker, how many, types, capabilities, other types). For each what is assigned to the worker, then of the
-- pool what it can do, as (number of the request, 0 if assigned, priority, seq, suspect). The walk goes from one (needs,
-- type) to the next by seeking, so a long backlog of one costs nothing. Of suspects one is enough; they do not stand in the
-- way of the others.
with recursive request (number, worker_id, most, types, capabilities, but) as materialized (
  select cast(key as integer), value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
  from jsonb_each(:requests)
),
walk (needs, type) as (
  select '', ''
  union all
  select next.needs, next.type
  from walk as w cross join tasks as next on next.seq = coalesce((
    select seq from tasks where needs = w.needs and type > w.type and state = 'queued' and run_due = 0
    order by type limit 1
  ), (
    select seq from tasks where needs > w.needs and state = 'queued' and run_due = 0 order by needs, type limit 1
  ))
)
select json_group_array(json_array(number, rank, priority, seq, suspect) order by number, rank, priority, seq) from (
  select r.number, 0 as rank, t.priority, t.seq, t.suspect
  from request as r cross join tasks as t indexed by tasks_held
    on t.worker_id = r.worker_id and t.state in ('assigned', 'running') and t.state = 'assigned'
  where (r.types is null or t.type in (select value from json_each(r.types)))
    and t.type not in (select value from json_each(r.but))
  union all
  select r.number, 1, t.priority, t.seq, t.suspect
  from request as r cross join walk as w cross join tasks as t on t.seq in (
    select * from (
      select seq from tasks indexed by tasks_ready
      where needs = w.needs and type = w.type and suspect = 0 and state = 'queued' and run_due = 0
        and (deadline_due is null or deadline_due > :now)
      order by priority, seq limit :most
    )
    union all
    select * from (
      select seq from tasks indexed by tasks_ready
      where needs = w.needs and type = w.type and suspect = 1 and state = 'queued' and run_due = 0
        and (deadline_due is null or deadline_due > :now)
      order by priority, seq limit 1
    )
  )
  where w.needs <> '' and (r.types is null or w.type in (select value from json_each(r.types)))
    and w.type not in (select value from json_each(r.but))
    and not exists (
      select value from json_each(iif(json_valid(w.needs), w.needs, '[null]'))
      except select value from json_each(r.capabilities)
    )
)

-- name: tasks_take
-- :rows are (seq, worker, seconds that a run may take where the task does not say so). A run ends before its deadline.
-- A damaged number does not rise past what all readers take; it would refuse all rows of the statement.
update tasks set state = 'running', worker_id = taken.worker_id, token = min(token + 1, 9007199254740991),
  attempt = min(attempt + (state = 'queued'), 9007199254740991), owner = :owner,
  until_due = :now + cast((coalesce(tasks.run_limit, taken.run_limit) + :margin) * 1000000 as integer),
  ended_as = null, assigned_at = :at, fraction = 0, note = null
from (
  select value ->> 0 as seq, value ->> 1 as worker_id, value ->> 2 as run_limit from jsonb_each(:rows)
) as taken
where tasks.seq = taken.seq

-- name: tasks_find_suspect
-- Whether this process runs a task whose process died before.
select json_array(exists (
  select 1 from tasks indexed by tasks_run where state = 'running' and owner = :owner and suspect = 1
))

-- name: tasks_read_taken
select json_group_array(json_array(id, token, worker_id, attempt, max_attempts, type, description, priority, content,
  checksum, supervisor, origin, created_at, run_limit, deadline_due, suspect, trace))
from (
  select t.* from jsonb_each(:seqs) as wanted cross join tasks as t on t.seq = wanted.value order by wanted.key
)

-- name: tasks_list_claims
select json_group_array(json_array(id, token)) from tasks indexed by tasks_run where state = 'running' and owner = :owner

-- name: tasks_progress
-- :rows are (seq, fraction, note).
update tasks set fraction = told.fraction, note = told.note
from (select value ->> 0 as seq, value ->> 1 as fraction, value ->> 2 as note from jsonb_each(:rows)) as told
where tasks.seq = told.seq

-- name: tasks_reprioritise
update tasks set priority = :priority where seq in (select value from jsonb_each(:seqs))

-- name: tasks_find_failed
select json_group_array(json_array(t.seq, t.id)) from jsonb_each(:ids) as wanted cross join tasks as t on t.id = wanted.value
where t.state = 'failed' and (:type is null or t.type = :type)

-- name: tasks_find_all_failed
select json_group_array(json_array(seq, id)) from tasks indexed by tasks_listed
where state not in ('assigned', 'running') and state = 'failed' and (:type is null or type = :type)

-- name: tasks_redrive
update tasks set state = 'queued', attempt = 0, suspect = 0, run_due = 0, queued_due = :now, deadline_due = null,
  deadline_at = null, result = null, result_checksum = null, fraction = 0, note = null, settled_at = null, settled_due = null,
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'redriven', 'attempt', attempt,
    'worker', worker_id, 'reason', null))
where seq in (select value from jsonb_each(:seqs))

-- name: tasks_find
select json_group_array(json_array(t.id, t.type, t.description, t.needs, t.priority, t.content, t.checksum, t.supervisor,
  t.state, t.worker_id, t.token, t.attempt, t.max_attempts, t.owner, t.origin, t.result, t.result_checksum, t.reason,
  t.fraction, t.note, t.created_at, t.deadline_at, t.assigned_at, t.settled_at, t.log))
from jsonb_each(:ids) as wanted cross join tasks as t on t.id = wanted.value

-- name: tasks_find_ended
-- Each id with its end, if it has ended, and with nulls if it does not exist.
select json_group_array(json_array(wanted.value, t.state, t.reason, t.result, t.result_checksum))
from jsonb_each(:ids) as wanted left join tasks as t on t.id = wanted.value
where t.id is null or t.state in ('done', 'failed', 'cancelled', 'expired')

-- name: tasks_find_place
-- Where a step of a page ends that looks at :most tasks below :below in the indexes that :way names (`workload.way_of`); null:
-- there are no more. Of several lists it is where the first one ends: the rest of the others is for the next step.
select json_array(max(seq)) from (
  select * from (
    select seq from tasks where :way = 'all' and seq < :below order by seq desc limit 1 offset :most - 1
  )
  union all
  select (
    select seq from tasks indexed by tasks_listed
    where :way = 'states' and state not in ('assigned', 'running') and state = wanted.value and seq < :below
    order by seq desc limit 1 offset :most - 1
  ) from json_each(:states) as wanted
  union all
  select * from (
    select seq from tasks indexed by tasks_of_supervisor
    where :way = 'supervisor' and supervisor is not null and supervisor = :supervisor and seq < :below
    order by seq desc limit 1 offset :most - 1
  )
  union all
  select * from (
    select seq from tasks indexed by tasks_open_of
    where :way = 'open' and supervisor is not null and supervisor = :supervisor
      and state in ('queued', 'assigned', 'running') and seq < :below
    order by seq desc limit 1 offset :most - 1
  )
)

-- name: tasks_list
-- A page, or a step of one, from :place to below :below, by the indexes that :way names (`workload.way_of`). It answers how many
-- it found, what is passed over included, and the rows.
with found as materialized (
  select seq from (
    select * from (
      select seq from tasks
      where :way = 'all' and seq < :below and seq >= :place
        and (:type is null or type = :type) and (:worker is null or worker_id = :worker)
      order by seq desc limit :limit + :offset
    )
    union all
    select t.seq from json_each(:states) as wanted cross join tasks as t on t.seq in (
      select seq from tasks indexed by tasks_listed
      where :way = 'states' and state not in ('assigned', 'running') and state = wanted.value
        and seq < :below and seq >= :place
        and (:type is null or type = :type) and (:worker is null or worker_id = :worker)
      order by seq desc limit :limit + :offset
    )
    union all
    select * from (
      select seq from tasks indexed by tasks_held
      where :way = 'states' and state in ('assigned', 'running') and state in (select value from json_each(:states))
        and seq < :below and seq >= :place
        and (:type is null or type = :type) and (:worker is null or worker_id = :worker)
      order by seq desc limit :limit + :offset
    )
    union all
    select * from (
      select seq from tasks indexed by tasks_of_supervisor
      where :way = 'supervisor' and supervisor is not null and supervisor = :supervisor
        and seq < :below and seq >= :place
        and (:states is null or state in (select value from json_each(:states)))
        and (:type is null or type = :type) and (:worker is null or worker_id = :worker)
      order by seq desc limit :limit + :offset
    )
    union all
    select * from (
      select seq from tasks indexed by tasks_open_of
      where :way = 'open' and supervisor is not null and supervisor = :supervisor
        and seq < :below and seq >= :place
        and state in ('queued', 'assigned', 'running') and state in (select value from json_each(:states))
        and (:type is null or type = :type) and (:worker is null or worker_id = :worker)
      order by seq desc limit :limit + :offset
    )
  )
  order by seq desc limit :limit + :offset
)
select json_array((select count(*) from found), json_group_array(json_array(id, type, description,
  needs, priority, content, checksum, supervisor, state, worker_id, token, attempt, max_attempts, owner, origin, result,
  result_checksum, reason, fraction, note, created_at, deadline_at, assigned_at, settled_at, log, seq)))
from (
  select * from tasks where seq in (select seq from found order by seq desc limit :limit offset :offset) order by seq desc
)

-- name: tasks_statistics
-- It reads no more where there are more tasks: the counts are kept, the newest ends come by an index, and the oldest that
-- waits is the first of a group and priority.
with recursive walk (needs, type) as (
  select '', '' where :supervisor is null
  union all
  select next.needs, next.type
  from walk as w cross join tasks as next on next.seq = coalesce((
    select seq from tasks where needs = w.needs and type > w.type and state = 'queued' and run_due = 0
    order by type limit 1
  ), (
    select seq from tasks where needs > w.needs and state = 'queued' and run_due = 0 order by needs, type limit 1
  ))
),
kind (suspect, priority) as (values (0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4))
select json_array(
  json((select json_group_object(state, number) from (
    select state, sum(number) as number from task_counts where :supervisor is null or supervisor = :supervisor
    group by state having sum(number) <> 0
  ))),
  (select avg(settled_at - assigned_at) from (
    select * from (
      select settled_at, assigned_at from tasks indexed by tasks_settled
      where :supervisor is null and state = 'done' and settled_due is not null and assigned_at is not null
      order by settled_due desc limit 1000
    )
    union all
    select * from (
      select settled_at, assigned_at from tasks indexed by tasks_done_of
      where supervisor = :supervisor and supervisor is not null and state = 'done' and assigned_at is not null
      order by settled_due desc limit 1000
    )
  )),
  (select min(created_at) from (
    select t.created_at from walk as w cross join kind as k cross join tasks as t on t.seq = (
      select seq from tasks indexed by tasks_ready
      where needs = w.needs and type = w.type and suspect = k.suspect and priority = k.priority and state = 'queued'
        and run_due = 0
      order by seq limit 1
    )
    where w.needs <> ''
    union all
    select * from (
      select created_at from tasks indexed by tasks_open_of
      where supervisor = :supervisor and supervisor is not null and state in ('queued', 'assigned', 'running')
        and state = 'queued' and run_due = 0
      order by seq limit 1
    )
  ))
)

-- name: tasks_prune
with final (state) as (values ('done'), ('failed'), ('cancelled'), ('expired'))
delete from tasks where seq in (
  select t.seq from final as f cross join tasks as t on t.seq in (
    select seq from tasks indexed by tasks_settled
    where state = f.state and settled_due is not null and settled_due < :before
    order by settled_due limit :limit
  )
  where :states is null or f.state in (select value from json_each(:states))
  order by t.settled_due limit :limit
)

-- name: tasks_measure
select json_array(count(*), coalesce(sum(
  octet_length(content) + octet_length(description) + coalesce(octet_length(result), 0) + coalesce(octet_length(log), 0)
), 0))
from tasks where settled_due is not null and settled_due < :before and state in ('done', 'failed', 'cancelled', 'expired')
  and (:states is null or state in (select value from json_each(:states)))
