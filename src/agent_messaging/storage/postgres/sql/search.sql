-- Candidates are the messages that the index finds, and all that it has not taken in yet. Both are walked from the newest on.

-- name: search_settings
-- PostgreSQL alone. How frequent a word is decides the plan: the newest rows are walked for a frequent one, and a GIN index is
-- read, by a bitmap, for a rare one. By its default costs of disks the server would walk a million rows for a rare word: 0.45 s
-- in place of 0.01 s. Starting workers takes longer than most searches.
select set_config('enable_bitmapscan', 'on', true), set_config('plan_cache_mode', 'force_custom_plan', true),
  set_config('seq_page_cost', '1', true), set_config('random_page_cost', '1.1', true),
  set_config('cpu_operator_cost', '0.0025', true), set_config('max_parallel_workers_per_gather', '0', true)

-- name: search_find
-- Without words ($1), all messages; but of those in the index none that has one of the words of $13. $2 is a seq. With
-- `w.seq + 0` the planner does not take the state of the index for a narrow range: it would walk that range in place of
-- looking for a rare word. How frequent the beginning of a word ($14, $15: see `find_candidates`) is, the server does not
-- know: it takes each for frequent.
select c.seq, c.size from (
  (
    select m.seq, octet_length(m.content) as size from messages m
    where m.seq > case when $1::text is null then 0 else coalesce((select s.indexed_to from search_state s), 0) end
      and m.seq < $2::bigint
      and m.message_type = 'user_defined' and m.kind = any($3::text[])
      and ($4::text[] is null or m.sender_id = any($4::text[]::uuid[]))
      and ($5::text[] is null or m.recipient_id = any($5::text[]::uuid[]))
      and ($6::text is null or m.session_id = $6::text::uuid) and ($7::text is null or m.meeting_id = $7::text::uuid)
      and ($8::text is null or (select d.thread from deliveries d where d.seq = m.seq) = $8)
      and ($9::timestamptz is null or m.created_at >= $9) and ($10::timestamptz is null or m.created_at <= $10)
      and not exists (select from unnest($11::text[]) n (needle) where coalesce(strpos(m.metadata, n.needle), 0) = 0)
      and ($13::text is null or not exists (
        select from search_words u where u.seq = m.seq and u.words @@ $13::text::tsquery
      ))
    order by m.seq desc limit $12::bigint
  )
  union all
  (
    select m.seq, octet_length(m.content) as size from search_words w join messages m on m.seq = w.seq
    where $1::text is not null and w.words @@ $1::text::tsquery
      and w.seq + 0 <= coalesce((select s.indexed_to from search_state s), 0) and w.seq < $2::bigint and w.seq > $14::bigint
      and m.message_type = 'user_defined' and m.kind = any($3::text[])
      and ($4::text[] is null or m.sender_id = any($4::text[]::uuid[]))
      and ($5::text[] is null or m.recipient_id = any($5::text[]::uuid[]))
      and ($6::text is null or m.session_id = $6::text::uuid) and ($7::text is null or m.meeting_id = $7::text::uuid)
      and ($8::text is null or (select d.thread from deliveries d where d.seq = m.seq) = $8)
      and ($9::timestamptz is null or m.created_at >= $9) and ($10::timestamptz is null or m.created_at <= $10)
      and not exists (select from unnest($11::text[]) n (needle) where coalesce(strpos(m.metadata, n.needle), 0) = 0)
    -- By an order that the table does not have, there is only the index to read.
    order by case when $15::boolean then w.seq + 0 end desc, w.seq desc limit $12::bigint
  )
) c
order by c.seq desc limit $12::bigint

-- name: search_reach
-- PostgreSQL alone: how far the index reaches.
select coalesce((select s.indexed_to from search_state s), 0) as indexed_to

-- name: search_load
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.session_id::text,
  m.meeting_id::text, coalesce((select d.thread from deliveries d where d.seq = m.seq), '') as thread, m.topic, m.content,
  m.metadata, m.checksum, m.created_at
from unnest($1::bigint[]) s (seq)
cross join lateral (select * from messages i where i.seq = s.seq limit 1) m

-- name: search_horizon
-- PostgreSQL alone. The newest message, and the transactions that may still commit one of a smaller seq: whoever draws a seq
-- holds this lock of the sequence from before it until its transaction ends. (Its number, which a snapshot shows, it has only
-- after that, and the lock of the table too, where several are drawn before they are stored.) Whoever drew a smaller seq than a
-- message that is seen here is among them, or has ended.
select (select coalesce(max(m.seq), 0) from messages m) as newest, array(
  select l.virtualtransaction from pg_locks l
  where l.locktype = 'relation' and l.relation = 'messages_seq_seq'::regclass and l.mode = 'RowExclusiveLock' and l.granted
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
) as in_flight

-- name: search_unindexed
-- At most $4, and none behind the one with which they reach $5 bytes.
select m.seq, m.id::text as message_id, m.content, m.metadata, m.checksum
from (
  select p.seq, sum(p.size) over (order by p.seq rows between unbounded preceding and 1 preceding) as before from (
    select i.seq, octet_length(i.content) as size from messages i
    where i.seq > $1::bigint and i.seq <= $2::bigint and i.kind = any($3::text[]) and i.message_type = 'user_defined'
    order by i.seq limit $4::bigint
  ) p
) w
cross join lateral (select * from messages i where i.seq = w.seq limit 1) m
where coalesce(w.before, 0) < $5::bigint
order by m.seq + 0

-- name: search_progress
select coalesce((select s.indexed_to from search_state s), 0) as indexed_to,
  coalesce((select max(m.seq) from messages m), 0) as newest,
  (select count(*) from (select from unread_counts c where not c.is_sum limit 1000) o) as unsummed

-- name: search_lead
update search_state s set owner = $1::text::uuid, until = t.now + make_interval(secs => $2::float8)
from (select coalesce($3::timestamptz, store_now()) as now) t
where s.owner is null or s.owner = $1::text::uuid or s.until <= t.now or s.until > t.now + make_interval(secs => $2::float8)
returning s.indexed_to

-- name: search_advance
update search_state set indexed_to = $3::bigint where owner = $1::text::uuid and indexed_to = $2::bigint

-- name: search_insert
-- Without those that were removed since they were read. None is removed before this is committed, and its removal then
-- forgets it.
with kept as materialized (
  select m.seq from messages m where m.seq = any($1::bigint[]) order by m.seq + 0 for key share
)
insert into search_words (seq, words)
select e.seq, array_to_tsvector(string_to_array(e.words, ' ')) from unnest($1::bigint[], $2::text[]) e (seq, words)
join kept k on k.seq = e.seq
on conflict (seq) do nothing

-- name: search_count
-- PostgreSQL alone: SQLite counts when it files. The unread of a batch, and what was read of others since the last one. The
-- rows are locked, because one that is read meanwhile would be counted twice, or not at all: see count_reading. So are the
-- agents, after them, as a removal does: of one that is removed meanwhile a sum would stay, which forget_counts does not see.
with batch as materialized (
  select d.recipient_id, d.kind, d.read_at from deliveries d
  where d.seq > $1::bigint and d.seq <= $2::bigint
  order by d.seq
  for share of d
),
found as materialized (
  select o.ctid as place, o.agent_id from unread_counts o where not o.is_sum limit 10000
),
kept as materialized (
  select a.id from agents a
  where a.id = any(array(select b.recipient_id from batch b union select f.agent_id from found f))
  order by a.id
  for key share
),
changes as (
  delete from unread_counts c
  where not c.is_sum and c.ctid = any(array(select f.place from found f join kept k on k.id = f.agent_id))
  returning c.agent_id, c.kind, c.unread
)
insert into unread_counts as u (agent_id, kind, unread, is_sum)
select x.agent_id, x.kind, sum(x.unread), true
from (
  select b.recipient_id as agent_id, b.kind, 1 as unread from batch b join kept k on k.id = b.recipient_id
  where b.read_at is null
  union all
  select c.agent_id, c.kind, c.unread from changes c
) x
group by x.agent_id, x.kind
order by x.agent_id, x.kind
on conflict (agent_id, kind) where is_sum do update set unread = u.unread + excluded.unread

-- name: search_analyze
-- PostgreSQL alone. How frequent a word is decides the plan of a search; of a table that has just been filled the server does
-- not know it, and reads all 300,000 messages of a frequent word: twenty times as long.
analyze search_words

-- name: search_lock
-- PostgreSQL alone. Nobody is between reading a message and looking how far the index reaches; until the commit.
lock table deliveries in share mode

-- name: search_forget
-- The counts of unread messages begin anew too.
delete from unread_counts

-- name: search_clear
delete from search_words

-- name: search_restart
update search_state set indexed_to = 0, owner = null, until = null
