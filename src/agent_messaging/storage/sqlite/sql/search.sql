-- Candidates are the messages that the index finds, and all that it has not taken in yet. Both are walked from the newest on.

-- name: search_find
-- Without :words, all messages; but of those in the index none that has one of the words of :without. :before is a seq.
select json_group_array(json_array(seq, size)) from (
  select * from (
    select m.seq, octet_length(m.content) as size from messages as m
    where m.seq > iif(:words is null, 0, coalesce((select indexed_to from search_state), 0)) and m.seq < :before
      and m.message_type = 'user_defined' and m.kind in (select value from json_each(:kinds))
      and (:senders is null or m.sender_id in (select value from json_each(:senders)))
      and (:recipients is null or m.recipient_id in (select value from json_each(:recipients)))
      and (:session is null or m.session_id = :session) and (:meeting is null or m.meeting_id = :meeting)
      and (:thread is null or (select thread from deliveries as d where d.seq = m.seq) = :thread)
      and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
      and not exists (select 1 from json_each(:needles) as n where coalesce(instr(m.metadata, n.value), 0) = 0)
      and (:without is null or m.seq not in (
        select rowid from search_words where search_words match coalesce(:without, '""') and rowid < :before
      ))
    order by m.seq desc limit :limit
  )
  union all
  select * from (
    select m.seq, octet_length(m.content) as size
    from search_words as w cross join messages as m on m.seq = w.rowid
    where :words is not null and w.search_words match coalesce(:words, '""')
      and w.rowid <= coalesce((select indexed_to from search_state), 0) and w.rowid < :before
      and m.message_type = 'user_defined' and m.kind in (select value from json_each(:kinds))
      and (:senders is null or m.sender_id in (select value from json_each(:senders)))
      and (:recipients is null or m.recipient_id in (select value from json_each(:recipients)))
      and (:session is null or m.session_id = :session) and (:meeting is null or m.meeting_id = :meeting)
      and (:thread is null or (select thread from deliveries as d where d.seq = m.seq) = :thread)
      and (:from is null or m.created_at >= :from) and (:to is null or m.created_at <= :to)
      and not exists (select 1 from json_each(:needles) as n where coalesce(instr(m.metadata, n.value), 0) = 0)
    order by w.rowid desc limit :limit
  )
  order by 1 desc limit :limit
)

-- name: search_load
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.session_id, m.meeting_id,
  coalesce((select thread from deliveries as d where d.seq = m.seq), ''), m.topic, m.content, m.metadata, m.checksum,
  m.created_at))
from json_each(:seqs) as s cross join messages as m on m.seq = s.value

-- name: search_unindexed
-- At most :limit, and none behind the one with which they reach :most_bytes. With the bytes of each.
select json_group_array(json_array(m.seq, m.id, m.content, m.metadata, m.checksum, w.size)) from (
  select seq, size, sum(size) over (order by seq rows between unbounded preceding and 1 preceding) as before from (
    select seq, octet_length(content) as size from messages
    where seq > :after and seq <= :horizon and kind in (select value from json_each(:kinds))
      and message_type = 'user_defined'
    order by seq limit :limit
  )
) as w cross join messages as m on m.seq = w.seq
where coalesce(w.before, 0) < :most_bytes

-- name: search_progress
select json_array(coalesce((select indexed_to from search_state), 0), coalesce((select max(seq) from messages), 0))

-- name: search_lead
update search_state set owner = :owner, until_due = :until
where owner is null or owner = :owner or until_due <= :now or until_due > :until
returning indexed_to

-- name: search_advance
update search_state set indexed_to = :to where owner = :owner and indexed_to = :after

-- name: search_insert
-- Without those that were removed since they were read.
insert into search_words (rowid, words)
select m.seq, e.value ->> 1 from json_each(:entries) as e cross join messages as m on m.seq = e.value ->> 0

-- name: search_refile
-- SQLite alone. What is filed is found anew, from the rows themselves: whoever repairs a store comes by here.
delete from listed;
delete from lists;
insert into message_numbers (is_one, filed) values (1, 0) on conflict do update set filed = 0

-- name: search_forget
-- The counts of unread messages are made anew too.
delete from unread_counts

-- name: search_clear
insert into search_words (search_words) values ('delete-all')

-- name: search_restart
update search_state set indexed_to = 0, owner = null, until_due = 0
