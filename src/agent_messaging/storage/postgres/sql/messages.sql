-- For `seq + 0` and `(select true …)` see deliveries.sql.

-- name: find_seq
select m.seq from messages m where m.id = $1::text::uuid

-- name: find_message
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic, m.meeting_id::text
from messages m
left join deliveries d on d.seq = m.seq
where m.id = $1::text::uuid

-- name: list_messages_sent
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic
from (
  select * from messages o
  where o.sender_id = $1::text::uuid and o.kind = $2
    and (o.xid, o.seq) < (
      case when $9::text is null then '18446744073709551615'
        else (select i.xid from messages i where i.id = $9::text::uuid) end,
      case when $9::text is null then 9223372036854775807
        else (select i.seq from messages i where i.id = $9::text::uuid) end
    )
    and ($5::timestamptz is null or o.created_at >= $5) and ($6::timestamptz is null or o.created_at <= $6)
    and (not $7::boolean or (select true from deliveries d where d.seq = o.seq and d.read_at is null limit 1))
    and ($8::text[] is null or not exists (
      select from unnest($8::text[]) n (needle) where coalesce(strpos(o.metadata, n.needle), 0) = 0
    ))
    and ($10::text[] is null or (select d.state = any($10::text[]) from deliveries d where d.seq = o.seq limit 1))
    and ($11::text is null or o.recipient_id = $11::text::uuid)
  order by o.xid desc, o.seq desc limit $3 offset $4
) m
left join deliveries d on d.seq = m.seq
order by m.xid desc, m.seq desc

-- name: list_messages_received
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic
from (
  select * from messages o
  where o.recipient_id = $1::text::uuid and o.kind = $2
    and (o.xid, o.seq) < (
      case when $8::text is null then '18446744073709551615'
        else (select i.xid from messages i where i.id = $8::text::uuid) end,
      case when $8::text is null then 9223372036854775807
        else (select i.seq from messages i where i.id = $8::text::uuid) end
    )
    and ($5::timestamptz is null or o.created_at >= $5) and ($6::timestamptz is null or o.created_at <= $6)
    and ($7::text[] is null or not exists (
      select from unnest($7::text[]) n (needle) where coalesce(strpos(o.metadata, n.needle), 0) = 0
    ))
    and ($9::text[] is null or (select d.state = any($9::text[]) from deliveries d where d.seq = o.seq limit 1))
    and ($10::text is null or o.sender_id = $10::text::uuid)
  order by o.xid desc, o.seq desc limit $3 offset $4
) m
left join deliveries d on d.seq = m.seq
order by m.xid desc, m.seq desc

-- name: list_messages_unread
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic
from deliveries d
cross join lateral (
  select * from messages o
  where o.seq = d.seq
    and ($5::timestamptz is null or o.created_at >= $5) and ($6::timestamptz is null or o.created_at <= $6)
    and ($7::text[] is null or not exists (
      select from unnest($7::text[]) n (needle) where coalesce(strpos(o.metadata, n.needle), 0) = 0
    ))
  limit 1
) m
where d.recipient_id = $1::text::uuid and d.kind = $2 and d.read_at is null
  and d.seq + 0 < case when $8::text is null then 9223372036854775807
    else (select i.seq from messages i where i.id = $8::text::uuid) end
  and ($9::text[] is null or d.state = any($9::text[]))
  and ($10::text is null or d.sender_id = $10::text::uuid)
order by d.seq + 0 desc limit $3 offset $4

-- name: list_messages_sent_after
-- In the order of transactions, and not beyond the oldest one in flight: its rows will come before those left out here.
with place as materialized (
  select coalesce((select o.xid from messages o where o.seq <= $8 order by o.seq desc limit 1), '0') as xid, $8::bigint as seq
)
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic
from (
  select o.* from messages o
  where o.sender_id = $1::text::uuid and o.kind = $2
    and (o.xid, o.seq) > ((select xid from place), (select seq from place))
    and o.xid < pg_snapshot_xmin(pg_current_snapshot())
    and ($5::timestamptz is null or o.created_at >= $5) and ($6::timestamptz is null or o.created_at <= $6)
    and (not $7::boolean or (select true from deliveries d where d.seq = o.seq and d.read_at is null limit 1))
  order by o.xid, o.seq limit $3 offset $4
) m
left join deliveries d on d.seq = m.seq
order by m.xid, m.seq

-- name: list_messages_received_after
with place as materialized (
  select coalesce((select o.xid from messages o where o.seq <= $7 order by o.seq desc limit 1), '0') as xid, $7::bigint as seq
)
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic
from (
  select o.* from messages o
  where o.recipient_id = $1::text::uuid and o.kind = $2
    and (o.xid, o.seq) > ((select xid from place), (select seq from place))
    and o.xid < pg_snapshot_xmin(pg_current_snapshot())
    and ($5::timestamptz is null or o.created_at >= $5) and ($6::timestamptz is null or o.created_at <= $6)
  order by o.xid, o.seq limit $3 offset $4
) m
left join deliveries d on d.seq = m.seq
order by m.xid, m.seq

-- name: list_messages_unread_after
with place as materialized (
  select coalesce((select o.xid from messages o where o.seq <= $7 order by o.seq desc limit 1), '0') as xid, $7::bigint as seq
)
select m.seq, m.id::text as message_id, m.kind, m.sender_id::text, m.recipient_id::text, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id::text, m.message_type, d.thread, m.topic
from (
  select o.* from messages o
  where o.recipient_id = $1::text::uuid and o.kind = $2
    and (o.xid, o.seq) > ((select xid from place), (select seq from place))
    and o.xid < pg_snapshot_xmin(pg_current_snapshot())
    and ($5::timestamptz is null or o.created_at >= $5) and ($6::timestamptz is null or o.created_at <= $6)
    and (select true from deliveries d where d.seq = o.seq and d.read_at is null limit 1)
  order by o.xid, o.seq limit $3 offset $4
) m
left join deliveries d on d.seq = m.seq
order by m.xid, m.seq

-- name: list_messages_held_back
-- PostgreSQL alone: whether a committed message waits for a transaction in flight before followers may see it.
select $2::text = 'sender' and exists (
  select from messages o
  where o.sender_id = $1::text::uuid and o.kind = $3 and o.xid >= pg_snapshot_xmin(pg_current_snapshot())
) or $2 = 'recipient' and exists (
  select from messages o
  where o.recipient_id = $1::text::uuid and o.kind = $3 and o.xid >= pg_snapshot_xmin(pg_current_snapshot())
) as held_back

-- name: mark_read
-- By a function of the server, which counts them: see 0008_search.sql.
select mark_read($1::text::uuid, $2, $3::text::uuid, coalesce($4::timestamptz, store_now())) as number

-- name: mark_read_these
with chosen as materialized (
  select d.seq from deliveries d
  where d.seq = any(array(select m.seq from unnest($3::text[]::uuid[]) as i (id) join messages m on m.id = i.id))
    -- Written so that only the primary key fits: an index of the unread ones would be read whole.
    and (d.recipient_id = $1::text::uuid) is true and d.kind || '' = $2 and (d.read_at is null) is true
  order by d.seq + 0
  for update of d
),
marked as (
  update deliveries d set read_at = t.now
  from chosen c, (select coalesce($4::timestamptz, store_now()) as now) t
  where d.seq = c.seq
  returning true
)
select count(*) as number from marked

-- name: count_messages_sent
select count(*) from messages m
where m.sender_id = $1::text::uuid and m.kind = $2
  and ($3::boolean is null or (select (d.read_at is not null) = $3 from deliveries d where d.seq = m.seq limit 1))

-- name: count_messages_received
-- Those read are all but the unread; see count_messages_unread.
select count(*) - case when $3::boolean then (
  select coalesce(sum(c.unread), 0) from unread_counts c where c.agent_id = $1::text::uuid and c.kind = $2
) + (
  select count(*) from deliveries d
  where d.recipient_id = $1::text::uuid and d.kind = $2 and d.read_at is null
    and d.seq + 0 > (select s.indexed_to from search_state s)
) else 0 end as count
from messages m
where m.recipient_id = $1::text::uuid and m.kind = $2

-- name: count_messages_unread
-- What the index of words has taken in is counted already.
select (
  select coalesce(sum(c.unread), 0) from unread_counts c where c.agent_id = $1::text::uuid and c.kind = $2
) + (
  select count(*) from deliveries d
  where d.recipient_id = $1::text::uuid and d.kind = $2 and d.read_at is null
    and d.seq + 0 > (select s.indexed_to from search_state s)
) as count

-- What is narrowed is counted one by one.

-- name: count_narrowed_sent
select count(*) from messages o
where o.sender_id = $1::text::uuid and o.kind = $2
  and ($3::boolean is null or (select (d.read_at is not null) = $3 from deliveries d where d.seq = o.seq limit 1))
  and ($4::timestamptz is null or o.created_at >= $4) and ($5::timestamptz is null or o.created_at <= $5)
  and ($6::text[] is null or not exists (
    select from unnest($6::text[]) n (needle) where coalesce(strpos(o.metadata, n.needle), 0) = 0
  ))
  and ($7::text[] is null or (select d.state = any($7::text[]) from deliveries d where d.seq = o.seq limit 1))
  and ($8::text is null or o.recipient_id = $8::text::uuid)

-- name: count_narrowed_received
select count(*) from messages o
where o.recipient_id = $1::text::uuid and o.kind = $2
  and ($3::boolean is null or (select (d.read_at is not null) = $3 from deliveries d where d.seq = o.seq limit 1))
  and ($4::timestamptz is null or o.created_at >= $4) and ($5::timestamptz is null or o.created_at <= $5)
  and ($6::text[] is null or not exists (
    select from unnest($6::text[]) n (needle) where coalesce(strpos(o.metadata, n.needle), 0) = 0
  ))
  and ($7::text[] is null or (select d.state = any($7::text[]) from deliveries d where d.seq = o.seq limit 1))
  and ($8::text is null or o.sender_id = $8::text::uuid)

-- name: count_narrowed_unread
select count(*) from deliveries d join messages o on o.seq = d.seq
where d.recipient_id = $1::text::uuid and d.kind = $2 and d.read_at is null and ($3::boolean is null or not $3)
  and ($4::timestamptz is null or o.created_at >= $4) and ($5::timestamptz is null or o.created_at <= $5)
  and ($6::text[] is null or not exists (
    select from unnest($6::text[]) n (needle) where coalesce(strpos(o.metadata, n.needle), 0) = 0
  ))
  and ($7::text[] is null or d.state = any($7::text[]))
  and ($8::text is null or d.sender_id = $8::text::uuid)

-- name: find_newest_xid
-- Whether the newest message, or event, bears a transaction number that this server has not given out yet.
select coalesce(greatest(
  (select m.xid from messages m order by m.seq desc limit 1), (select e.xid from meeting_events e order by e.seq desc limit 1)
) >= pg_snapshot_xmax(pg_current_snapshot()), false)

-- name: forget_xids
with events as (
  update meeting_events set xid = '0'
)
update messages set xid = '0'
