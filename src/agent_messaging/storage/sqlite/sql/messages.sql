-- The pages find their sequence numbers in an index first, so that a deep page reads no bodies on its way.

-- name: list_messages_sent
with page as materialized (
  select m.seq from messages as m left join deliveries as d on d.seq = m.seq
  where m.sender_id = :agent and m.kind = :kind
    and (not :unread or (d.seq is not null and d.read_at is null))
    and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
  order by m.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_received
with page as materialized (
  select seq from messages
  where recipient_id = :agent and kind = :kind
    and (:from is null or created_at >= :from) and (:to is null or created_at <= :to)
  order by seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_unread
with page as materialized (
  select d.seq from deliveries as d indexed by deliveries_unread cross join messages as m on m.seq = d.seq
  where d.recipient_id = :agent and d.kind = :kind and d.read_at is null
    and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
  order by d.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread, m.topic))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: list_messages_sent_after
with page as materialized (
  select m.seq from messages as m left join deliveries as d on d.seq = m.seq
  where m.sender_id = :agent and m.kind = :kind and m.seq > :after_seq
    and (not :unread or (d.seq is not null and d.read_at is null))
    and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
  order by m.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_received_after
with page as materialized (
  select seq from messages
  where recipient_id = :agent and kind = :kind and seq > :after_seq
    and (:from is null or created_at >= :from) and (:to is null or created_at <= :to)
  order by seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_unread_after
with page as materialized (
  select d.seq from deliveries as d indexed by deliveries_unread cross join messages as m on m.seq = d.seq
  where d.recipient_id = :agent and d.kind = :kind and d.read_at is null and d.seq > :after_seq
    and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
  order by d.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread, m.topic))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: mark_read
update deliveries set read_at = :at
where recipient_id = :recipient and kind = :kind and read_at is null and (:sender is null or sender_id = :sender)

-- name: count_messages_sent
select case
  when :read is null then (select count(*) from messages where sender_id = :agent and kind = :kind)
  else (
    select count(*) from messages as m cross join deliveries as d on d.seq = m.seq
    where m.sender_id = :agent and m.kind = :kind and (d.read_at is not null) = :read
  )
end

-- name: count_messages_received
select case
  when :read = 0 then (
    select count(*) from deliveries where recipient_id = :agent and kind = :kind and read_at is null
  )
  else (select count(*) from messages where recipient_id = :agent and kind = :kind) - iif(:read, (
    select count(*) from deliveries where recipient_id = :agent and kind = :kind and read_at is null
  ), 0)
end
