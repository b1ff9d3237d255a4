-- name: queue_put
insert into queue_messages (agent_id, message_id, sender_id, type, priority, content, metadata, checksum, max_attempts,
  expires_at, queued_at, created_at)
select i.agent_id, i.message_id, i.sender_id, i.type, i.priority, i.content, i.metadata, i.checksum, i.max_attempts,
  t.now + make_interval(secs => i.expires_in), t.now, t.now
from (select coalesce($11::timestamptz, store_now()) as now) t
cross join unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::text[], $8::bigint[],
  $9::integer[], $10::float8[]) with ordinality as i (agent_id, message_id, sender_id, type, priority, content, metadata,
  checksum, max_attempts, expires_in, position)
order by i.position
on conflict (agent_id, message_id) do nothing
returning agent_id, message_id

-- name: queue_find
-- Locked: what a message is now it stays until this transaction ends.
select q.agent_id, q.message_id, q.seq, q.state, q.token, q.attempt, q.max_attempts, q.ended_as, q.owner::text, q.suspect
from unnest($1::text[], $2::text[]) as i (agent_id, message_id)
join queue_messages q on q.agent_id = i.agent_id and q.message_id = i.message_id
order by q.seq + 0 for update of q

-- name: queue_find_listeners
select distinct l.process_id::text from unnest($1::text[]) as i (agent_id)
join queue_listeners l on l.agent_id = i.agent_id

-- name: queue_claim
-- By priority, and oldest first within one. What others are about to claim is passed over. What is behind the message that
-- reaches $5 bytes waits for the next call. Of suspects a process has one at a time: the first one, if it has none.
with moment as materialized (
  select coalesce($7::timestamptz, store_now()) as now
),
candidate as materialized (
  select q.seq, q.priority, octet_length(q.content) + coalesce(octet_length(q.metadata), 0) as size
  from queue_messages q, moment m
  where q.agent_id = $1 and q.state = 'queued' and q.run_at is null and (q.expires_at is null or q.expires_at > m.now)
    and ($6::text[] is null or q.type = any($6))
    and not exists (select from processes p where p.id = $3::text::uuid and p.ended_at is not null)
    and (not q.suspect or q.seq = (
      select s.seq from queue_messages s
      where s.agent_id = $1 and s.state = 'queued' and s.run_at is null and s.suspect
        and (s.expires_at is null or s.expires_at > m.now) and ($6::text[] is null or s.type = any($6))
        and not exists (select from queue_messages c where c.state = 'claimed' and c.owner = $3::text::uuid and c.suspect)
      order by s.priority, s.seq + 0 limit 1
    ))
  order by q.priority, q.seq + 0 limit $2
  for update of q skip locked
),
sized as materialized (
  select seq, sum(size) over (order by priority, seq rows between unbounded preceding and 1 preceding) as before
  from candidate
),
taken as (
  update queue_messages q set state = 'claimed', token = least(q.token, 2147483646) + 1,
    attempt = least(q.attempt, 2147483646) + 1, owner = $3::text::uuid, claimed_at = m.now,
    claim_until = m.now + make_interval(secs => $4::float8), ended_as = null
  from sized s, moment m
  where q.seq = s.seq and coalesce(s.before, 0) < $5::bigint
  returning q.*
)
select agent_id, message_id, token, attempt, sender_id, type, priority, content, metadata, checksum, max_attempts,
  created_at, expires_at
from taken order by priority, seq

-- name: queue_end
with moment as materialized (
  select coalesce($9::timestamptz, store_now()) as now
)
update queue_messages q set state = i.state, attempt = i.attempt,
  run_at = case when i.delay > 0 then m.now + make_interval(secs => i.delay) end, queued_at = m.now, claim_until = null,
  suspect = i.suspect, ended_as = i.ended_as, reason = i.reason, settled_at = case when i.final then m.now end
from moment m
cross join unnest($1::bigint[], $2::text[], $3::integer[], $4::float8[], $5::text[], $6::text[], $7::boolean[],
  $8::boolean[]) as i (seq, state, attempt, delay, ended_as, reason, final, suspect)
where q.seq = i.seq

-- name: queue_renew
update queue_messages set claim_until = coalesce($3::timestamptz, store_now()) + make_interval(secs => $2::float8)
where seq = any($1::bigint[])

-- name: queue_find_claimed
-- What these processes have claimed.
select q.seq, q.state, q.token, q.attempt, q.max_attempts, q.ended_as, q.owner::text, q.suspect from queue_messages q
where q.state = 'claimed' and q.owner = any($1::text[]::uuid[])
order by q.seq + 0 for update of q

-- name: queue_find_overdue
select q.seq, q.state, q.token, q.attempt, q.max_attempts, q.ended_as, q.owner::text, q.suspect from queue_messages q
where q.state = 'claimed' and q.claim_until <= coalesce($2::timestamptz, store_now())
order by q.claim_until limit $1
for update of q skip locked

-- name: queue_next
-- Many changes of the counts wait to be added to the sums: then it is time too.
select extract(epoch from least(
  (select min(claim_until) from queue_messages where state = 'claimed'),
  (select min(expires_at) from queue_messages where state = 'queued' and expires_at is not null),
  (select min(run_at) from queue_messages where state = 'queued' and run_at is not null),
  (select coalesce($1::timestamptz, store_now()) from (select from queue_counts where not is_sum limit 1001) as changes
   having count(*) > 1000)
) - coalesce($1::timestamptz, store_now()))::float8 as next_in

-- name: queue_expire
with late as materialized (
  select q.seq from queue_messages q
  where q.state = 'queued' and q.expires_at <= coalesce($2::timestamptz, store_now())
  order by q.expires_at limit $1
  for update of q skip locked
)
update queue_messages q set state = 'expired', run_at = null, ended_as = 'expired',
  settled_at = coalesce($2::timestamptz, store_now())
from late where q.seq = late.seq

-- name: queue_due
with due as materialized (
  select q.seq from queue_messages q
  where q.state = 'queued' and q.run_at is not null and q.run_at <= coalesce($2::timestamptz, store_now())
  order by q.run_at limit $1
  for update of q skip locked
)
update queue_messages q set queued_at = q.run_at, run_at = null from due where q.seq = due.seq

-- name: queue_listen_clear
delete from queue_listeners where process_id = any($1::text[]::uuid[])

-- name: queue_listen
insert into queue_listeners (agent_id, process_id)
select i.agent_id, $2::text::uuid from unnest($1::text[]) as i (agent_id)
where not exists (select from processes where id = $2::text::uuid and ended_at is not null)
on conflict do nothing

-- name: queue_list
select agent_id, message_id, sender_id, type, priority, content, metadata, checksum, state, token, attempt, max_attempts,
  owner::text, created_at, expires_at, claimed_at, settled_at, reason
from queue_messages
where ($1::text is null or agent_id = $1) and ($2::text[] is null or state = any($2))
order by seq desc limit $3 offset $4

-- name: queue_redrive
with dead as materialized (
  select q.seq from queue_messages q
  where q.state = 'dead' and ($1::text is null or q.agent_id = $1) and ($2::text[] is null or q.message_id = any($2))
  order by q.seq + 0 for update of q
)
update queue_messages q set state = 'queued', attempt = 0, suspect = false, run_at = null, queued_at = store_now(),
  expires_at = null, settled_at = null, ended_as = null
from dead where q.seq = dead.seq

-- name: queue_fold_counts
-- PostgreSQL alone: on SQLite nobody waits for a row of counts. Adds the newest changes to the sums.
with changes as (
  delete from queue_counts c
  where c.ctid = any(array(select o.ctid from queue_counts o where not o.is_sum limit 10000 for update skip locked))
  returning c.agent_id, c.what, c.number
)
insert into queue_counts as s (agent_id, what, number, is_sum)
select c.agent_id, c.what, sum(c.number), true from changes c
group by c.agent_id, c.what having sum(c.number) <> 0
order by c.agent_id, c.what
on conflict (agent_id, what) where is_sum do update set number = s.number + excluded.number

-- name: queue_forget_counts
-- PostgreSQL alone: a trigger of SQLite does it.
delete from queue_counts where ctid = any(array(
  select s.ctid from queue_counts s where s.is_sum and s.number = 0 for update skip locked
))

-- name: queue_statistics
-- The counts are kept; the oldest that waits is the first of an agent and a priority.
select
  (select jsonb_object_agg(c.what, c.number) from (
    select what, sum(number) as number from queue_counts where $1::text is null or agent_id = $1
    group by what having sum(number) <> 0
  ) c)::text as counts,
  (select count(*) from queue_messages
   where settled_at is not null and settled_at > t.now - make_interval(secs => $2::float8)
     and ($1::text is null or agent_id = $1)) as settled_lately,
  extract(epoch from t.now - (
    select min(q.created_at)
    from (select distinct agent_id from queue_counts where what = 'queued' and ($1::text is null or agent_id = $1)) c
    cross join generate_series(0, 4) as level (priority)
    cross join lateral (
      select m.created_at from queue_messages m
      where m.agent_id = c.agent_id and m.priority = level.priority and m.state = 'queued' and m.run_at is null
      order by m.seq + 0 limit 1
    ) q
  ))::float8 as age
from (select coalesce($3::timestamptz, store_now()) as now) t

-- name: queue_prune
with old as materialized (
  select q.seq from queue_messages q
  where q.settled_at is not null
    and q.settled_at < coalesce($4::timestamptz, store_now()) - make_interval(secs => $1::float8)
    and ($3::text[] is null or q.state = any($3))
  order by q.settled_at limit $2
  for update of q skip locked
)
delete from queue_messages q using old where q.seq = old.seq

-- name: queue_measure
select count(*) as number, coalesce(sum(octet_length(q.content) + coalesce(octet_length(q.metadata), 0)), 0)::bigint as size_bytes
from queue_messages q
where q.settled_at is not null
  and q.settled_at < coalesce($3::timestamptz, store_now()) - make_interval(secs => $1::float8)
  and ($2::text[] is null or q.state = any($2))
