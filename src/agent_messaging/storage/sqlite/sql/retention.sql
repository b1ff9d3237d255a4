-- A walk goes page by page: `_page` finds what is old enough (and where the next page begins), `_find` what the rule asks of
-- each, `_delete` removes what goes. On the writing connection `_find` and `_delete` are one transaction.
--
-- :before is by the wall clock, which may jump. So a message must also have waited since :before_due, by the store's clock.

-- name: prune_messages_page
-- Dead letters are a kind of their own, and what belongs to a meeting goes with it. The numbers follow the time roughly, so
-- the walk ends with a page on which all are younger. It goes on behind instants that have not come, which are of a clock
-- that ran ahead; and where an archive was taken in, as what it has brought stands behind what was there.
with page as materialized (
  select seq, created_at, meeting_id from messages where seq > :after order by seq limit :limit
)
select json_array(
  iif(count(*) < :limit or (min(p.created_at) > :before and max(p.created_at) <= :now
    and not exists (select 1 from imports where finished_at is not null)), null, max(p.seq)),
  json_group_array(p.seq order by p.seq) filter (
    where p.meeting_id is null and p.created_at <= :before and d.state <> 'dead' and d.queued_due <= :before_due
      and coalesce(d.settled_at, 0) <= :before and coalesce(d.read_at, 0) <= :before
  )
)
from page as p left join deliveries as d on d.seq = p.seq

-- name: prune_dead_letters_page
with page as materialized (
  select recipient_id, seq, queued_due, settled_at from deliveries indexed by deliveries_dead
  where state = 'dead' and (recipient_id, seq) > (:after_recipient, :after)
  order by recipient_id, seq limit :limit
)
select json_array(
  json((select json_array(recipient_id, seq) from page limit 1 offset :limit - 1)),
  json((
    select json_group_array(p.seq) from page as p cross join messages as m on m.seq = p.seq
    where m.meeting_id is null and p.queued_due <= :before_due and coalesce(p.settled_at, m.created_at) <= :before
  ))
)

-- name: prune_messages_find
-- Of the messages that answer something, those whose question is stored: it was sent before, in the same session. A notice
-- that is too old to be told keeps nothing.
with wanted as materialized (
  select m.seq, m.id, m.session_id, octet_length(m.content) + coalesce(octet_length(m.metadata), 0) as size
  from json_each(:keys) as i cross join messages as m on m.seq = i.value
),
answers as materialized (
  select a.answer_seq, a.seq from (
    select session_id, max(seq) as newest from wanted where session_id is not null group by session_id
  ) as s
  cross join session_messages as own on own.session_id = s.session_id and own.seq < s.newest
  cross join asks as a on a.seq = own.seq and a.answer_seq <= s.newest
)
select json_group_array(json_array(w.seq, w.id, d.state, d.token > 0, d.read_at is not null, d.expires_due is not null,
  exists (select 1 from asks as a where a.seq = w.seq and a.state = 'open')
    or exists (select 1 from notices as n where n.seq = w.seq and n.created_due >= :worth_telling),
  exists (select 1 from hops as h where h.kept_id = w.id)
    or exists (
      select 1 from sessions as s indexed by sessions_of_runs
      where s.thread = w.id and s.ended_at is null and length(s.thread) = 36
    ),
  (select q.seq from answers as q where q.answer_seq = w.seq),
  w.size + coalesce(octet_length(d.log), 0), exists (select 1 from asks as a where a.seq = w.seq), w.session_id
) order by w.seq)
from wanted as w cross join deliveries as d on d.seq = w.seq

-- name: prune_messages_delete
-- All else that hangs on a message goes by foreign keys, and its words by a trigger. The way of an ask goes with the ask.
delete from hops where message_id in (select m.id from json_each(:keys) as i cross join messages as m on m.seq = i.value);
delete from messages where seq in (select value from json_each(:keys))

-- name: prune_sessions_page
with page as materialized (
  select id, created_at, ended_at from sessions where id > :after order by id limit :limit
)
select json_array(
  iif(count(*) < :limit or min(created_at) > :before, null, max(id)),
  json_group_array(id order by id) filter (where created_at <= :before and coalesce(ended_at, 0) <= :before)
)
from page

-- name: prune_sessions_find
select json_group_array(json_array(s.id, s.id, s.ended_at is null,
  (select count(*) from (select 1 from session_messages as own where own.session_id = s.id limit :most))
) order by s.id)
from json_each(:keys) as i cross join sessions as s on s.id = i.value

-- name: prune_sessions_delete
delete from sessions where id in (select value from json_each(:keys))

-- name: prune_meetings_page
with page as materialized (
  select id, created_at, ended_at from meetings where id > :after order by id limit :limit
)
select json_array(
  iif(count(*) < :limit or min(created_at) > :before, null, max(id)),
  json_group_array(id order by id) filter (where created_at <= :before and coalesce(ended_at, 0) <= :before)
)
from page

-- name: prune_meetings_find
select json_group_array(json_array(t.id, t.id, t.status <> 'ended',
  exists (
    select 1 from messages as m indexed by messages_of_meeting cross join deliveries as d on d.seq = m.seq
    where m.meeting_id = t.id and d.state in ('queued', 'claimed')
  ),
  (select coalesce(sum(octet_length(m.content) + coalesce(octet_length(m.metadata), 0) + :row), 0)
   from messages as m indexed by messages_of_meeting where m.meeting_id = t.id)
  + (select coalesce(sum(octet_length(e.data) + :row), 0) from meeting_events as e where e.meeting_id = t.id)
) order by t.id)
from json_each(:keys) as i cross join meetings as t on t.id = i.value

-- name: prune_meetings_delete
-- What was said goes first: the meeting takes only its own rows along.
delete from messages where seq in (
  select m.seq from json_each(:keys) as i cross join messages as m indexed by messages_of_meeting on m.meeting_id = i.value
);
delete from meetings where id in (select value from json_each(:keys))

-- name: prune_keys_page
with page as materialized (
  select sender_id, call, key, created_at from idempotency_keys
  where (sender_id, call, key) > (:after_sender, :after_call, :after) order by sender_id, call, key limit :limit
)
select json_array(
  json((select json_array(sender_id, call, key) from page limit 1 offset :limit - 1)),
  json((select json_group_array(json_array(sender_id, call, key)) from page where created_at <= :before))
)

-- name: prune_keys_find
select json_group_array(json_array(k.sender_id, k.call, k.key, exists (
    select 1 from json_each(iif(json_valid(k.message_ids), k.message_ids, '[]')) as j
    cross join messages as m on m.id = j.value cross join deliveries as d on d.seq = m.seq
    where d.state in ('queued', 'claimed') or d.ask_state = 'open'
  ), octet_length(k.key) + octet_length(k.fingerprint) + octet_length(k.message_ids)
))
from json_each(:keys) as i cross join idempotency_keys as k
  on k.sender_id = i.value ->> 0 and k.call = i.value ->> 1 and k.key = i.value ->> 2

-- name: prune_keys_delete
delete from idempotency_keys where (sender_id, call, key) in (
  select value ->> 0, value ->> 1, value ->> 2 from json_each(:keys)
)

-- name: prune_mark
update retention set newest_pruned = max(newest_pruned, :newest) where kind = :kind

-- name: find_newest_pruned
select newest_pruned from retention where kind = :kind

-- name: take_turn
update retention set turn_due = :until where kind = :kind and (turn_due <= :now or turn_due > :until) returning kind

-- name: end_unused_sessions_find
select json_group_array(id) from (select id from unused_sessions limit :limit)

-- name: end_unused_sessions
update sessions set ended_at = :at where id in (select value from json_each(:ids))

-- name: release_space
-- A row for each page.
pragma incremental_vacuum
