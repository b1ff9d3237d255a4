-- Each listing selects the columns of a schedule's record, in its order.

-- name: schedules_find
-- Locked: the first to come fires.
select s.name, s.rule, s.zone, s.task, s.next_at, s.fired, s.fired_at, s.created_at
from unnest($1::text[]) as i (name) join schedules s on s.name = i.name
order by s.name for update of s

-- name: schedules_put
insert into schedules (name, rule, zone, task, next_at, since_at, created_at)
values ($1, $2, $3, $4, $5::timestamptz, $6::timestamptz, coalesce($7::timestamptz, store_now()))
on conflict (name) do update set task = excluded.task,
  next_at = case when schedules.rule = excluded.rule and schedules.zone = excluded.zone then schedules.next_at
    else excluded.next_at end,
  since_at = case when schedules.rule = excluded.rule and schedules.zone = excluded.zone then schedules.since_at
    else excluded.since_at end,
  rule = excluded.rule, zone = excluded.zone
returning xmax = 0 as is_new

-- name: schedules_remove
delete from schedules where name = $1

-- name: schedules_list
select name, rule, zone, task, next_at, fired, fired_at, created_at from schedules order by name limit $1 offset $2

-- name: schedules_find_due
select name, rule, zone, task, next_at, fired, fired_at, created_at from schedules
where next_at <= coalesce($2::timestamptz, store_now()) order by next_at limit $1

-- name: schedules_find_stalled
-- Intervals that have yet to begin: the clock was set back.
select name, rule, zone, task, next_at, fired, fired_at, created_at from schedules
where since_at > coalesce($2::timestamptz, store_now()) order by since_at desc limit $1

-- name: schedules_next
-- Whether one is due, or stands still, which is to be put right; and the seconds until the first that is not due.
select exists (select from schedules s where s.next_at <= t.now)
    or exists (select from schedules s where s.since_at > t.now) as is_any_due, t.now,
  extract(epoch from (select min(s.next_at) from schedules s where s.next_at > t.now) - t.now)::float8 as next_in
from (select coalesce($1::timestamptz, store_now()) as now) t

-- name: schedules_fire
update schedules s set fired = s.fired + i.fires::integer, fired_at = case when i.fires then s.next_at else s.fired_at end,
  next_at = i.next_at, since_at = i.since_at
from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::boolean[]) as i (name, next_at, since_at, fires)
where s.name = i.name
