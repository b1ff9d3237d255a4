-- name: publish_clear
delete from services where process_id = $1::text::uuid

-- name: publish_insert
insert into services (process_id, agent_id, kind, explicit, slots)
select $1::text::uuid, i.agent_id, i.kind, bool_or(i.explicit), max(i.slots)
from unnest($2::text[], $3::text[], $4::boolean[], $5::integer[]) as i (agent_id, kind, explicit, slots)
group by i.agent_id, i.kind

-- name: find_processes
select id::text as process_id, host, pid from processes where id = any($1::text[]::uuid[])

-- name: list_processes
select p.id::text as process_id, p.host, p.pid, p.started_at, p.ended_at, p.end_reason,
  extract(epoch from store_now() - p.ended_at)::float8 as seconds_since_end,
  coalesce((
    select jsonb_agg(jsonb_build_array(s.agent_id, s.kind, s.explicit, s.slots) order by s.agent_id, s.kind)
    from services s where s.process_id = p.id
  ), '[]') as services
from processes p
where p.ended_at is null or p.ended_at >= store_now() - make_interval(secs => $1::float8)
order by p.started_at, p.id

-- name: lock_claims
-- PostgreSQL alone: waits until no transaction of these processes is about to claim, as it may be after its client has gone: a
-- server that is slow to begin, or to sync, commits later. In a statement of its own, so that the next one sees what was claimed.
select pg_advisory_xact_lock(hashtextextended(i.id, 5)) from (select id from unnest($1::text[]) u (id) order by id) i

-- name: retire
update processes set ended_at = store_now(), end_reason = 'stopped'
where id = $1::text::uuid and ended_at is null

-- name: retire_claims
-- The claims end as if they had been returned. An orderly end is nobody's fault: no attempt is counted, and nothing is
-- suspected.
with moment as materialized (
  select store_now() as now
),
held as materialized (
  select d.seq, m.now from deliveries d, moment m
  where d.state = 'claimed' and d.owner = $1::text::uuid
  order by d.seq + 0
  for update of d
)
update deliveries d set
  state = 'queued', attempt = greatest(d.attempt, 1) - 1, suspect = false, run_at = null, queued_at = h.now, claim_until = null,
  log = logged(d, h.now, 'returned', 'the process stopped')
from held h where d.seq = h.seq
returning d.seq, d.kind, d.state

-- name: release_mark
with dead as materialized (
  select p.id from processes p where p.id = any($1::text[]::uuid[]) and p.ended_at is null order by p.id for update
)
update processes p set ended_at = coalesce($2::timestamptz, store_now()), end_reason = 'died'
from dead where p.id = dead.id
returning p.id::text

-- name: release_claims
-- If a dead process ran suspects, they are to blame; otherwise everything that it ran is.
with moment as materialized (
  select coalesce($2::timestamptz, store_now()) as now
),
held as materialized (
  select d.seq, d.owner, d.suspect, m.now from deliveries d, moment m
  where d.state = 'claimed' and d.owner = any($1::text[]::uuid[])
  order by d.seq + 0
  for update of d
),
judged as materialized (
  select h.seq, h.now, h.suspect or not bool_or(h.suspect) over (partition by h.owner) as blamed from held h
)
update deliveries d set
  state = case when j.blamed and d.attempt >= d.max_attempts then 'dead' else 'queued' end,
  attempt = greatest(d.attempt, 1) - (not j.blamed)::integer,
  suspect = j.blamed,
  claim_until = null, run_at = null, queued_at = j.now,
  settled_at = case when j.blamed and d.attempt >= d.max_attempts then j.now end,
  log = logged(d, j.now, 'lost', 'process died')
from judged j where d.seq = j.seq
returning d.seq, d.kind, d.state

-- name: presence_start
insert into processes (id, host, pid, backend_pid, backend_start, lease_until, renewed_at, started_at)
select $1::text::uuid, $2, $3, $4, $5, t.now + make_interval(secs => $6::float8), t.now, t.now
from (select store_now() as now) t

-- name: presence_withdraw
-- The start of this process failed: it has claimed nothing and served nobody.
delete from processes where id = $1::text::uuid

-- name: presence_backend
-- The connection that asks, as the others see it.
select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()

-- name: presence_renew
-- The row is locked first, so that it says the same as to the process that ended it, also if that was committed meanwhile.
with mine as materialized (
  select p.id, p.ended_at, p.end_reason from processes p where p.id = $1::text::uuid for no key update
),
renewed as (
  update processes p set
    lease_until = store_now() + make_interval(secs => $4::float8), renewed_at = store_now(),
    backend_pid = $2, backend_start = $3
  from mine m where p.id = m.id and m.ended_at is null
)
select exists (select from mine m where m.ended_at is null) as alive, (select m.end_reason from mine m) as end_reason

-- name: presence_drop_claims
-- The claims of an incarnation that others already took for dead. Nobody else will look for them before their hard end.
with held as materialized (
  select d.seq from deliveries d where d.state = 'claimed' and d.owner = $1::text::uuid order by d.seq + 0 for update of d
)
update deliveries d set
  state = 'queued', attempt = greatest(d.attempt, 1) - 1, claim_until = null, run_at = null, queued_at = store_now(),
  log = logged(d, store_now(), 'lost', 'process was taken for dead')
from held h where d.seq = h.seq
returning d.seq, d.kind, d.state

-- name: presence_ring
select pg_notify($1, $2)

-- name: presence_channel
select current_schema()

-- name: presence_dead
-- Finds the processes whose lease is over, or whose presence connection is gone. The start of another role's connection
-- may be hidden from us; then its pid has to do, though the system reuses pids.
select p.id::text as process_id, p.lease_until < store_now() as over, p.backend_pid, p.backend_start,
  p.backend_pid is not null and not exists (
    select from pg_stat_activity a
    where a.pid = p.backend_pid and (a.backend_start is null or a.backend_start = p.backend_start)
  ) as gone
from processes p
where p.ended_at is null

-- name: presence_prune
-- Their waits, registered while nobody knew yet that they had ended, go too: without its process a wait counts as live.
with gone as (
  delete from processes where ended_at < store_now() - interval '7 days' returning id
)
delete from waits w using gone where w.process_id = gone.id
