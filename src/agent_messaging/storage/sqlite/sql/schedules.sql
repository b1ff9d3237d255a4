-- Each listing selects (name, rule, zone, task, next_at, fired, fired_at, created_at).

-- name: schedules_find
select json_group_array(json_array(s.name, s.rule, s.zone, s.task, s.next_at, s.fired, s.fired_at, s.created_at))
from jsonb_each(:names) as wanted cross join schedules as s on s.name = wanted.value

-- name: schedules_put
insert into schedules (name, rule, zone, task, next_at, next_due, since_due, created_at)
values (:name, :rule, :zone, :task, :next_at, :next_due, :since_due, :at)
on conflict (name) do update set task = excluded.task,
  next_at = iif(rule = excluded.rule and zone = excluded.zone, next_at, excluded.next_at),
  next_due = iif(rule = excluded.rule and zone = excluded.zone, next_due, excluded.next_due),
  since_due = iif(rule = excluded.rule and zone = excluded.zone, since_due, excluded.since_due),
  rule = excluded.rule, zone = excluded.zone

-- name: schedules_remove
delete from schedules where name = :name

-- name: schedules_list
select json_group_array(json_array(name, rule, zone, task, next_at, fired, fired_at, created_at)) from (
  select * from schedules order by name limit :limit offset :offset
)

-- name: schedules_find_due
select json_group_array(json_array(name, rule, zone, task, next_at, fired, fired_at, created_at)) from (
  select * from schedules where next_due <= :now order by next_due limit :limit
)

-- name: schedules_find_stalled
-- Intervals that have yet to begin: the clock was set back.
select json_group_array(json_array(name, rule, zone, task, next_at, fired, fired_at, created_at)) from (
  select * from schedules where since_due > :now order by since_due desc limit :limit
)

-- name: schedules_next
-- When the next one is due behind :now; and :at if one stands still then, which is to be put right.
select json_array(
  (select min(next_due) from schedules where next_due > :now),
  (select :at where exists (select 1 from schedules where since_due > :at))
)

-- name: schedules_fire
-- :rows are (name, next_at, next_due, since_due, 1 if it hands something out).
update schedules set fired = fired + moved.fires, fired_at = iif(moved.fires, schedules.next_at, fired_at),
  next_at = moved.next_at, next_due = moved.next_due, since_due = moved.since_due
from (
  select value ->> 0 as name, value ->> 1 as next_at, value ->> 2 as next_due, value ->> 3 as since_due, value ->> 4 as fires
  from jsonb_each(:rows)
) as moved
where schedules.name = moved.name
