-- A walk goes page by page: `_page` finds what is old enough (and where the next page begins), `_find` what the rule asks of
-- each, `_delete` removes what goes. Before it, in the same transaction, `_lock` takes what nobody else holds, and `_find`
-- is asked again. Sessions and meetings are locked without anything else, messages with their deliveries: nobody is waited
-- for, so the order of locks (sql/asks.sql) is no concern.

-- name: prune_messages_page
-- Dead letters are a kind of their own, and what belongs to a meeting goes with it. The numbers follow the time roughly, so
-- the walk ends with a page on which all are younger. It goes on behind instants that have not come, which are of a clock
-- that ran ahead; and where an archive was taken in, as what it has brought stands behind what was there.
with page as materialized (
  select m.seq, m.created_at, m.meeting_id from messages m where m.seq > $1::bigint order by m.seq limit $2::bigint
),
moment as materialized (
  select n.now, n.now - make_interval(secs => $3::float8) as before from (select coalesce($4::timestamptz, store_now()) as now) n
)
select
  case when count(*) < $2 or (min(p.created_at) > min(t.before) and max(p.created_at) <= min(t.now) and (
    select i.archive from imports i where i.archive > '' and i.finished_at is not null order by i.archive limit 1
  ) is null) then null else max(p.seq) end as next,
  array_agg(p.seq order by p.seq) filter (
    where p.meeting_id is null and p.created_at <= t.before and d.state <> 'dead' and d.queued_at <= t.before
      and coalesce(d.settled_at <= t.before, true) and coalesce(d.read_at <= t.before, true)
  ) as found
from page p cross join moment t left join deliveries d on d.seq = p.seq

-- name: prune_dead_letters_page
with page as materialized (
  select d.recipient_id, d.seq, d.settled_at from deliveries d
  where d.state = 'dead' and (d.recipient_id, d.seq + 0) > ($5::text::uuid, $1::bigint)
  order by d.recipient_id, d.seq + 0 limit $2::bigint
),
moment as materialized (
  select coalesce($4::timestamptz, store_now()) - make_interval(secs => $3::float8) as before
)
select (select max(p.seq) from (select l.seq from page l offset $2 - 1) p) as next,
  (select (array_agg(p.recipient_id::text))[1] from (select l.recipient_id from page l offset $2 - 1) p) as next_recipient,
  (
    select array_agg(p.seq order by p.seq) from page p join messages m on m.seq = p.seq, moment t
    where m.meeting_id is null and coalesce(p.settled_at, m.created_at) <= t.before
  ) as found

-- name: prune_messages_lock
-- PostgreSQL alone: see the head of this file.
select m.seq from messages m join deliveries d on d.seq = m.seq where m.seq = any($1::bigint[])
order by m.seq + 0 for update of m, d skip locked

-- name: prune_messages_find
-- Of the messages that answer something, those whose question is stored. A notice that is too old to be told keeps nothing.
-- Here and below, `limit 1` keeps the planner from reading a whole table once in place of looking for each row.
select m.seq, m.id::text, d.state, d.token > 0 as was_handled, d.read_at is not null as is_read,
  d.expires_at is not null as has_expiry,
  coalesce(
    (select true from asks a where a.seq = m.seq and a.state || '' = 'open' limit 1),
    (
      select true from notices n
      where n.seq = m.seq and n.created_at >= coalesce($2::timestamptz, store_now()) - interval '1 minute' limit 1
    ),
    false
  ) as is_awaited,
  coalesce(
    (select true from hops h where h.kept_id = m.id limit 1),
    (select true from sessions s where s.thread = m.id::text and s.ended_at is null and length(s.thread) = 36 limit 1),
    false
  ) as is_referred,
  (select a.seq from asks a where a.answer_seq = m.seq limit 1) as question,
  octet_length(m.content) + coalesce(octet_length(m.metadata), 0) + coalesce(octet_length(d.log::text), 0) as size,
  (select true from asks a where a.seq = m.seq limit 1) is true as is_question, m.session_id::text
from unnest($1::bigint[]) i (seq)
cross join lateral (select * from messages x where x.seq = i.seq limit 1) m
cross join lateral (select * from deliveries x where x.seq = i.seq limit 1) d
order by m.seq + 0

-- name: prune_messages_delete
-- All else that hangs on a message goes by triggers. The way of an ask goes with the ask.
with gone as (
  delete from messages m where m.seq = any($1::bigint[]) returning m.id
)
delete from hops h using gone where h.message_id = gone.id

-- name: prune_sessions_page
with page as materialized (
  select s.id, s.created_at, s.ended_at from sessions s where s.id > $1::text::uuid order by s.id limit $2::bigint
),
moment as materialized (
  select coalesce($4::timestamptz, store_now()) - make_interval(secs => $3::float8) as before
)
select
  case when count(*) < $2 or min(p.created_at) > min(t.before) then null else (array_agg(p.id::text order by p.id desc))[1] end
    as next,
  array_agg(p.id::text order by p.id) filter (
    where p.created_at <= t.before and coalesce(p.ended_at <= t.before, true)
  ) as found
from page p cross join moment t

-- name: prune_sessions_lock
-- PostgreSQL alone: see the head of this file.
select s.id::text from sessions s where s.id = any($1::text[]::uuid[]) order by s.id for update skip locked

-- name: prune_sessions_find
select s.id::text as key, s.id::text, s.ended_at is null as is_open,
  (select count(*) from (select from messages m where m.session_id = s.id limit $2::bigint) c) as messages
from unnest($1::text[]::uuid[]) i (id)
cross join lateral (select * from sessions x where x.id = i.id limit 1) s
order by s.id

-- name: prune_sessions_delete
delete from sessions where id = any($1::text[]::uuid[])

-- name: prune_meetings_page
with page as materialized (
  select g.id, g.created_at, g.ended_at from meetings g where g.id > $1::text::uuid order by g.id limit $2::bigint
),
moment as materialized (
  select coalesce($4::timestamptz, store_now()) - make_interval(secs => $3::float8) as before
)
select
  case when count(*) < $2 or min(p.created_at) > min(t.before) then null else (array_agg(p.id::text order by p.id desc))[1] end
    as next,
  array_agg(p.id::text order by p.id) filter (
    where p.created_at <= t.before and coalesce(p.ended_at <= t.before, true)
  ) as found
from page p cross join moment t

-- name: prune_meetings_lock
-- PostgreSQL alone: see the head of this file.
select g.id::text from meetings g where g.id = any($1::text[]::uuid[]) order by g.id for update skip locked

-- name: prune_meetings_find
select g.id::text as key, g.id::text, g.status <> 'ended' as is_open,
  (
    select true from messages m join deliveries d on d.seq = m.seq
    where m.meeting_id = g.id and d.state || '' in ('queued', 'claimed') limit 1
  ) is true as has_open_deliveries,
  (
    select coalesce(sum(octet_length(m.content) + coalesce(octet_length(m.metadata), 0) + $2::bigint), 0)
    from messages m where m.meeting_id = g.id
  )::bigint + (
    select coalesce(sum(octet_length(e.data) + $2), 0) from meeting_events e where e.meeting_id = g.id
  )::bigint as size
from unnest($1::text[]::uuid[]) i (id)
cross join lateral (select * from meetings x where x.id = i.id limit 1) g
order by g.id

-- name: prune_meetings_delete
-- What was said goes with it, though no foreign key leads from there.
with said as (
  delete from messages m where m.meeting_id = any($1::text[]::uuid[])
)
delete from meetings where id = any($1::text[]::uuid[])

-- name: prune_keys_page
with page as materialized (
  select k.sender_id, k.call, k.key, k.created_at from idempotency_keys k
  where (k.sender_id, k.call, k.key) > ($1::text::uuid, $5, $6) order by k.sender_id, k.call, k.key limit $2::bigint
),
moment as materialized (
  select coalesce($4::timestamptz, store_now()) - make_interval(secs => $3::float8) as before
)
select p.sender_id::text, p.call, p.key, p.created_at <= t.before as is_old
from page p cross join moment t order by p.sender_id, p.call, p.key

-- name: prune_keys_lock
-- PostgreSQL alone: see the head of this file.
select k.sender_id::text, k.call, k.key
from unnest($1::text[]::uuid[], $2::text[], $3::text[]) i (sender_id, call, key)
join idempotency_keys k on k.sender_id = i.sender_id and k.call = i.call and k.key = i.key
for update of k skip locked

-- name: prune_keys_find
select k.sender_id::text, k.call, k.key, (
    select true from unnest(k.message_ids) j (id)
    cross join lateral (select * from messages x where x.id = j.id limit 1) m
    cross join lateral (select * from deliveries x where x.seq = m.seq limit 1) d
    where d.state in ('queued', 'claimed') or (select true from asks a where a.seq = m.seq and a.state || '' = 'open' limit 1)
    limit 1
  ) is true as is_open,
  octet_length(k.key) + octet_length(k.fingerprint) + 16 * cardinality(k.message_ids) as size
from unnest($1::text[]::uuid[], $2::text[], $3::text[]) i (sender_id, call, key)
join idempotency_keys k on k.sender_id = i.sender_id and k.call = i.call and k.key = i.key

-- name: prune_keys_delete
delete from idempotency_keys k using unnest($1::text[]::uuid[], $2::text[], $3::text[]) i (sender_id, call, key)
where k.sender_id = i.sender_id and k.call = i.call and k.key = i.key

-- name: prune_mark
update retention set newest_pruned = greatest(newest_pruned, $2) where kind = $1

-- name: find_newest_pruned
select newest_pruned from retention where kind = $1

-- name: take_turn
update retention r set turn_at = t.now + make_interval(secs => $2::float8)
from (select coalesce($3::timestamptz, store_now()) as now) t
where r.kind = $1 and (r.turn_at is null or r.turn_at <= t.now or r.turn_at > t.now + make_interval(secs => $2::float8))
returning r.kind

-- name: end_unused_sessions_find
select u.id::text from unused_sessions u order by u.thread limit $1::bigint

-- name: end_unused_sessions
-- They are locked, as whoever opens an ask in one locks it first. So what is looked at here stays true.
update sessions s set ended_at = coalesce($2::timestamptz, store_now())
where s.id = any($1::text[]::uuid[]) and exists (select from unused_sessions u where u.id = s.id)
