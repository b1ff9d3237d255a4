-- name: find_offset
-- The server's clock, the offset that is added to it, and how often that has changed; the latest time that another living
-- process counted; and whether a process may live.
select server_clock() as at, coalesce(c.shift, '0') as shift, coalesce(c.epoch, 0) as epoch, o.latest, o.is_anybody
from (
  select max(p.renewed_at) as latest, count(*) > 0 as is_anybody
  from processes p
  left join pg_stat_activity a
    on a.pid = p.backend_pid and (a.backend_start is null or a.backend_start = p.backend_start)
  left join store_clock c on true
  where p.ended_at is null and p.id is distinct from $1::text::uuid
    and (a.pid is not null or p.backend_pid is null and p.lease_until > server_clock() + coalesce(c.shift, '0'))
) o
left join store_clock c on true

-- name: record_offset
-- The first process that saw the jump decides; the others record nothing.
insert into store_clock as c (shift, epoch) values ($1::interval, $2::bigint + 1)
on conflict (is_one) do update set shift = excluded.shift, epoch = excluded.epoch where c.epoch = $2::bigint
returning epoch
