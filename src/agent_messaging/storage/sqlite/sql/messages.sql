-- The pages find their sequence numbers in the indexes of the mailboxes first, so that a deep page reads no bodies on its way.

-- name: find_seq
select seq from messages where id = :id

-- name: find_message
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic, m.meeting_id))
from messages as m left join deliveries as d on d.seq = m.seq
where m.id = :id

-- name: list_messages_sent
with page as materialized (
  select p.seq from sent as p
  where p.agent_id = :agent and p.kind = :kind
    and p.seq < iif(:before is null, 9223372036854775807, (select seq from messages where id = :before))
    and (not :unread or is_unread)
    and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n
      where coalesce(instr((select metadata from messages as m where m.seq = p.seq), n.value), 0) = 0
    ))
    and (:states is null or (select state from deliveries as d where d.seq = p.seq) in (select value from json_each(:states)))
    and (:other is null or (select recipient_id from deliveries as d where d.seq = p.seq) = :other)
  order by p.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_received
with page as materialized (
  select p.seq from received as p
  where p.agent_id = :agent and p.kind = :kind
    and p.seq < iif(:before is null, 9223372036854775807, (select seq from messages where id = :before))
    and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n
      where coalesce(instr((select metadata from messages as m where m.seq = p.seq), n.value), 0) = 0
    ))
    and (:states is null or (select state from deliveries as d where d.seq = p.seq) in (select value from json_each(:states)))
    and (:other is null or (select sender_id from deliveries as d where d.seq = p.seq) = :other)
  order by p.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_unread
with page as materialized (
  select p.seq from unread as p
  where p.agent_id = :agent and p.kind = :kind
    and p.seq < iif(:before is null, 9223372036854775807, (select seq from messages where id = :before))
    and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n
      where coalesce(instr((select metadata from messages as m where m.seq = p.seq), n.value), 0) = 0
    ))
    and (:states is null or (select state from deliveries as d where d.seq = p.seq) in (select value from json_each(:states)))
    and (:other is null or (select sender_id from deliveries as d where d.seq = p.seq) = :other)
  order by p.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread, m.topic))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: list_messages_sent_after
with page as materialized (
  select p.seq from sent as p
  where p.agent_id = :agent and p.kind = :kind and p.seq > :after_seq
    and (not :unread or is_unread)
    and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
  order by p.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_received_after
with page as materialized (
  select p.seq from received as p
  where p.agent_id = :agent and p.kind = :kind and p.seq > :after_seq
    and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
  order by p.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, ''), m.topic))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: list_messages_unread_after
with page as materialized (
  select p.seq from unread as p
  where p.agent_id = :agent and p.kind = :kind and p.seq > :after_seq
    and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
  order by p.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread, m.topic))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: mark_read
update deliveries set read_at = :at
where seq in (select seq from unread where agent_id = :recipient and kind = :kind) and (:sender is null or sender_id = :sender)

-- name: mark_read_these
update deliveries set read_at = :at
where seq in (select m.seq from jsonb_each(:ids) as wanted cross join messages as m on m.id = wanted.value)
  and recipient_id = :recipient and kind = :kind and read_at is null

-- name: count_messages_sent
select case
  when :read is null then (
    select count(*) from lists as l cross join listed as e on e.list = l.number
    where l.owner_id = :agent and l.name = 'sent' and l.kind = :kind and l.sender_id = '' and l.thread = ''
  ) + (
    select count(*) from unfiled where sender_id = :agent and kind = :kind
  ) + (
    select count(*) from messages indexed by messages_said where recipient_id is null and sender_id = :agent and kind = :kind
  )
  else (select count(*) from sent where agent_id = :agent and kind = :kind and is_unread = not :read)
end

-- name: count_messages_received
-- Of the filed ones the unread are counted already.
select iif(:read is 0, 0, (
  select count(*) from lists as l cross join listed as e on e.list = l.number
  where l.owner_id = :agent and l.name = 'received' and l.kind = :kind and l.sender_id = '' and l.thread = ''
)) + iif(:read is null, 0, iif(:read, -1, 1) * coalesce((
  select unread from unread_counts where agent_id = :agent and kind = :kind
), 0)) + (
  select count(*) from unfiled
  where recipient_id = :agent and kind = :kind and (:read is null or is_unread = not :read)
)

-- name: count_messages_unread
-- The filed ones are counted already; see filing.py.
select coalesce((select unread from unread_counts where agent_id = :agent and kind = :kind), 0) + (
  select count(*) from unfiled
  where recipient_id = :agent and kind = :kind and is_unread = 1
)

-- What is narrowed is counted one by one.

-- name: count_narrowed_sent
select count(*) from sent as p
where p.agent_id = :agent and p.kind = :kind and (:read is null or p.is_unread = not :read)
  and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
  and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
  and (:needles is null or not exists (
    select 1 from json_each(:needles) as n
    where coalesce(instr((select metadata from messages as m where m.seq = p.seq), n.value), 0) = 0
  ))
  and (:states is null or (select state from deliveries as d where d.seq = p.seq) in (select value from json_each(:states)))
  and (:other is null or (select recipient_id from deliveries as d where d.seq = p.seq) = :other)

-- name: count_narrowed_received
select count(*) from received as p
where p.agent_id = :agent and p.kind = :kind
  and (:read is null or (select is_unread from deliveries as d where d.seq = p.seq) = not :read)
  and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
  and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
  and (:needles is null or not exists (
    select 1 from json_each(:needles) as n
    where coalesce(instr((select metadata from messages as m where m.seq = p.seq), n.value), 0) = 0
  ))
  and (:states is null or (select state from deliveries as d where d.seq = p.seq) in (select value from json_each(:states)))
  and (:other is null or (select sender_id from deliveries as d where d.seq = p.seq) = :other)

-- name: count_narrowed_unread
select count(*) from unread as p
where p.agent_id = :agent and p.kind = :kind
  and (:from is null or (select created_at from messages as m where m.seq = p.seq) >= :from)
  and (:to is null or (select created_at from messages as m where m.seq = p.seq) <= :to)
  and (:needles is null or not exists (
    select 1 from json_each(:needles) as n
    where coalesce(instr((select metadata from messages as m where m.seq = p.seq), n.value), 0) = 0
  ))
  and (:states is null or (select state from deliveries as d where d.seq = p.seq) in (select value from json_each(:states)))
  and (:other is null or (select sender_id from deliveries as d where d.seq = p.seq) = :other)
