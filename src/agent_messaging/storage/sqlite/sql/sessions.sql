-- Every statement answers at most one row: a JSON array of all that was found (see engine.fetch for the reason).

-- name: find_session
select json_array(s.id, s.agent_a_id, s.agent_b_id, s.thread, s.session_type, (
  select asker_id from (
    select asker_id, seq from asks
    where asker_id = s.agent_a_id and responder_id = s.agent_b_id and session_id = s.id and state = 'open'
    union all
    select asker_id, seq from asks
    where asker_id = s.agent_b_id and responder_id = s.agent_a_id and session_id = s.id and state = 'open'
  ) where s.ended_at is null order by seq limit 1
), s.created_at, (
  select created_at from messages where seq = (select seq from session_messages where session_id = s.id order by seq desc limit 1)
), s.ended_at)
from sessions as s where s.id = :session

-- name: find_open_session
select json_array(s.id, s.agent_a_id, s.agent_b_id, s.thread, s.session_type, (
  select asker_id from (
    select asker_id, seq from asks
    where asker_id = s.agent_a_id and responder_id = s.agent_b_id and session_id = s.id and state = 'open'
    union all
    select asker_id, seq from asks
    where asker_id = s.agent_b_id and responder_id = s.agent_a_id and session_id = s.id and state = 'open'
  ) order by seq limit 1
), s.created_at, (
  select created_at from messages where seq = (select seq from session_messages where session_id = s.id order by seq desc limit 1)
), null)
from sessions as s
where s.agent_a_id = min(:agent, :other) and s.agent_b_id = max(:agent, :other) and s.thread = :thread and s.ended_at is null

-- name: list_sessions
-- The newest have the greatest ids.
with page as materialized (
  select s.id from (
    select * from sessions where agent_a_id = :agent
    union all
    select * from sessions where agent_b_id = :agent
  ) as s
  where s.id < coalesce(:before, '~') and (not :open_only or s.ended_at is null) and (:thread is null or s.thread = :thread)
    and (:from is null or s.created_at >= :from) and (:to is null or s.created_at <= :to)
    and (:status is null or :status = case
      when s.ended_at is not null then 'ended'
      when exists (
        select 1 from asks as a
        where a.asker_id = s.agent_a_id and a.responder_id = s.agent_b_id and a.session_id = s.id and a.state = 'open'
      ) or exists (
        select 1 from asks as a
        where a.asker_id = s.agent_b_id and a.responder_id = s.agent_a_id and a.session_id = s.id and a.state = 'open'
      ) then 'waiting'
      else 'active'
    end)
  order by s.id desc limit :limit offset :offset
)
select json_group_array(json_array(s.id, s.agent_a_id, s.agent_b_id, s.thread, s.session_type, (
  select asker_id from (
    select asker_id, seq from asks
    where asker_id = s.agent_a_id and responder_id = s.agent_b_id and session_id = s.id and state = 'open'
    union all
    select asker_id, seq from asks
    where asker_id = s.agent_b_id and responder_id = s.agent_a_id and session_id = s.id and state = 'open'
  ) where s.ended_at is null order by seq limit 1
), s.created_at, (
  select created_at from messages where seq = (select seq from session_messages where session_id = s.id order by seq desc limit 1)
), s.ended_at))
from page cross join sessions as s on s.id = page.id

-- name: end_session_find
-- The session that the ending has ended, or else the open one of the pair in this thread; with the asks and waits that end,
-- or ended, with it: of waits those for this thread, or with the main one (:awaited is null) those for any.
select json_array(s.id, s.ended_at is null, json((
  select json_group_array(json_array(a.seq, m.id, a.origin)) from (
    select seq, origin from asks
    where s.ended_at is null and asker_id = s.agent_a_id and responder_id = s.agent_b_id and session_id = s.id
      and state = 'open'
    union all
    select seq, origin from asks
    where s.ended_at is null and asker_id = s.agent_b_id and responder_id = s.agent_a_id and session_id = s.id
      and state = 'open'
    union all
    select ended.seq, ended.origin from session_messages as own cross join asks as ended on ended.seq = own.seq
    where s.ended_at is not null and own.session_id = s.id and ended.state = 'ended'
  ) as a cross join messages as m on m.seq = a.seq
)), json((
  select json_group_array(process_id) from waits
  where is_ended = (s.ended_at is not null) and thread is :awaited and (recipient_id, sender_id) in (
    values (s.agent_a_id, s.agent_b_id), (s.agent_b_id, s.agent_a_id)
  )
)))
from sessions as s where s.id = coalesce(
  (select session_id from messages where id = :ending),
  (
    select id from sessions
    where agent_a_id = min(:agent, :other) and agent_b_id = max(:agent, :other) and thread = :thread and ended_at is null
  )
)

-- name: end_session
update sessions set ended_at = :at, ended_by = :agent where id = :session

-- name: end_session_waits
update waits set is_ended = 1
where thread is :awaited
  and ((recipient_id = :agent and sender_id = :other) or (recipient_id = :other and sender_id = :agent))

-- name: end_session_store
-- Done and read from the start.
insert into messages (seq, id, kind, sender_id, recipient_id, session_id, message_type, content, checksum, created_at)
values (:seq, :ending, 'conversation', :agent, :other, :session, 'ending', :content, :checksum, :at);
insert into deliveries (seq, recipient_id, kind, sender_id, session_id, thread, state, max_attempts, queued_due, settled_at,
  read_at)
values (:seq, :other, 'conversation', :agent, :session, :thread, 'done', 1, :now, :at, :at)

-- name: count_messages
select json_array(count(*), count(d.read_at))
from session_messages as own cross join deliveries as d on d.seq = own.seq where own.session_id = :session

-- name: statistics
with mine as materialized (
  select agent_b_id as partner_id, ended_at from sessions where agent_a_id = :agent and (:thread is null or thread = :thread)
  union all
  select agent_a_id, ended_at from sessions where agent_b_id = :agent and (:thread is null or thread = :thread)
)
select json_array(
  (select count(*) from mine),
  (select count(*) from mine where ended_at is null),
  (
    select count(*) from sent as own cross join messages as m on m.seq = own.seq
    where own.agent_id = :agent and own.kind = 'conversation' and m.message_type = 'user_defined'
      and (:thread is null or exists (select 1 from deliveries as d where d.seq = own.seq and d.thread = :thread))
  ),
  (
    select count(*) from received as own cross join messages as m on m.seq = own.seq
    where own.agent_id = :agent and own.kind = 'conversation' and m.message_type = 'user_defined'
      and (:thread is null or exists (select 1 from deliveries as d where d.seq = own.seq and d.thread = :thread))
  ),
  (
    select count(*) from unread as own cross join deliveries as d on d.seq = own.seq cross join messages as m on m.seq = own.seq
    where own.agent_id = :agent and own.kind = 'conversation' and m.message_type = 'user_defined'
      and (d.run_due = 0 or d.token > 0) and not (d.state = 'expired' and d.expires_due is not null)
      and (:thread is null or d.thread = :thread)
  ),
  (select count(distinct partner_id) from mine)
)

-- name: list_messages
with page as materialized (
  select own.seq from session_messages as own cross join deliveries as d on d.seq = own.seq
  where own.session_id = :session and own.seq > coalesce(:after, 0) and own.seq < coalesce(:before, 9223372036854775807)
    and (not :unread or d.read_at is null)
    and (:from is null or (select created_at from messages as m where m.seq = own.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = own.seq) <= :to)
    and (:types is null or (select message_type from messages as m where m.seq = own.seq) in (select value from json_each(:types)))
    and (:states is null or d.state in (select value from json_each(:states)))
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n
      where coalesce(instr((select metadata from messages as m where m.seq = own.seq), n.value), 0) = 0
    ))
  order by own.seq limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, d.thread))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: list_messages_newest
with page as materialized (
  select own.seq from session_messages as own cross join deliveries as d on d.seq = own.seq
  where own.session_id = :session and own.seq > coalesce(:after, 0) and own.seq < coalesce(:before, 9223372036854775807)
    and (not :unread or d.read_at is null)
    and (:from is null or (select created_at from messages as m where m.seq = own.seq) >= :from)
    and (:to is null or (select created_at from messages as m where m.seq = own.seq) <= :to)
    and (:types is null or (select message_type from messages as m where m.seq = own.seq) in (select value from json_each(:types)))
    and (:states is null or d.state in (select value from json_each(:states)))
    and (:needles is null or not exists (
      select 1 from json_each(:needles) as n
      where coalesce(instr((select metadata from messages as m where m.seq = own.seq), n.value), 0) = 0
    ))
  order by own.seq desc limit :limit offset :offset
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, d.thread))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: read_find
-- A message that is not due yet is none of them, nor one that expired before anybody began with it.
-- None behind the one with which they reach so many bytes. The sizes are known without reading what they are of.
with page as materialized (
  select i.seq from (
    select u.seq, sum(u.size) over (order by u.seq rows between unbounded preceding and 1 preceding) as before
    from (
      select own.seq, octet_length(m.content) + coalesce(octet_length(m.metadata), 0) as size
      from unread as own cross join deliveries as d on d.seq = own.seq cross join messages as m on m.seq = own.seq
      where own.agent_id = :recipient and own.kind = 'conversation' and own.seq > :after_seq
        and m.message_type = 'user_defined'
        and (d.run_due = 0 or d.token > 0)
        and (d.expires_due is null or d.expires_due > :now or d.state not in ('queued', 'expired'))
      order by own.seq limit :limit
    ) as u
  ) as i where coalesce(i.before, 0) < :most_bytes
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: read_find_from
with page as materialized (
  select i.seq from (
    select u.seq, sum(u.size) over (order by u.seq rows between unbounded preceding and 1 preceding) as before
    from (
      select own.seq, octet_length(m.content) + coalesce(octet_length(m.metadata), 0) as size
      from unread_from as own cross join deliveries as d on d.seq = own.seq cross join messages as m on m.seq = own.seq
      where own.agent_id = :recipient and own.sender_id = :sender and own.seq > :after_seq
        and m.message_type = 'user_defined'
        and (d.run_due = 0 or d.token > 0)
        and (d.expires_due is null or d.expires_due > :now or d.state not in ('queued', 'expired'))
      order by own.seq limit :limit
    ) as u
  ) as i where coalesce(i.before, 0) < :most_bytes
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: read_find_in
-- In one thread, of all senders or of one.
with page as materialized (
  select i.seq from (
    select u.seq, sum(u.size) over (order by u.seq rows between unbounded preceding and 1 preceding) as before
    from (
      select own.seq, octet_length(m.content) + coalesce(octet_length(m.metadata), 0) as size
      from unread_in as own cross join deliveries as d on d.seq = own.seq cross join messages as m on m.seq = own.seq
      where own.agent_id = :recipient and own.thread = :thread
        and own.sender_id = coalesce(:sender, '') and own.seq > :after_seq and m.message_type = 'user_defined'
        and (d.run_due = 0 or d.token > 0)
        and (d.expires_due is null or d.expires_due > :now or d.state not in ('queued', 'expired'))
      order by own.seq limit :limit
    ) as u
  ) as i where coalesce(i.before, 0) < :most_bytes
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, null, m.session_id, m.message_type, d.thread))
from page cross join messages as m on m.seq = page.seq cross join deliveries as d on d.seq = page.seq

-- name: read_mark
-- By an agent's own code, in the run of the message :within or outside any. What is queued is done with it, and an open ask
-- is taken; what is claimed is left to its run, and its ask with it.
update deliveries set ask_taken_within = coalesce((select seq from messages where id = :within), 0)
where ask_state = 'open' and seq in (
  select d.seq from jsonb_each(:seqs) as wanted cross join deliveries as d on d.seq = wanted.value where d.state = 'queued'
);
update deliveries set read_at = :at, settled_at = iif(state = 'queued', :at, settled_at),
  state = iif(state = 'queued', 'done', state)
where seq in (select value from jsonb_each(:seqs))

-- name: return_messages
-- What that very call took (:taken are the seqs with its instants), and nobody has read since. Settled in that instant it
-- was taken from the queue. Whoever has answered an ask has read it.
update deliveries set read_at = null, settled_at = iif(state = 'done' and settled_at = read_at, null, settled_at),
  state = iif(state = 'done' and settled_at = read_at, 'queued', state)
from (select value ->> 0 as seq, value ->> 1 as at from jsonb_each(:taken)) as taken
where deliveries.seq = taken.seq and deliveries.read_at = taken.at
  and deliveries.ask_state is not 'replied';
update deliveries set ask_taken_within = null
where ask_state = 'open' and seq in (
  select d.seq from jsonb_each(:taken) as t cross join deliveries as d on d.seq = t.value ->> 0 where d.read_at is null
)

-- name: return_messages_waits
select json_group_array(distinct w.process_id) from jsonb_each(:seqs) as wanted
cross join deliveries as d on d.seq = wanted.value
cross join waits as w
  on w.recipient_id = d.recipient_id and w.sender_id = d.sender_id and (w.thread is null or w.thread = d.thread)
where d.read_at is null and w.is_ended = 0 and (w.until_due is null or w.until_due > :now)

-- name: reject_messages
-- What that very call took, and no handler has or had: settled in that instant, or done without one. It ended no claim, so
-- the log's entry bears no token.
update deliveries set state = 'dead', settled_at = :at,
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'dead', 'attempt', attempt,
    'process', :owner, 'claimed_at', null, 'reason', :reason))
from (select value ->> 0 as seq, value ->> 1 as at from jsonb_each(:taken)) as taken
where deliveries.seq = taken.seq and deliveries.read_at = taken.at and state = 'done'
  and (settled_at = read_at or token = 0)

-- name: find_asks
select json_group_array(json_array(m.id, a.session_id, a.asker_id, a.responder_id, a.state, a.origin, a.deadline_at, a.reason,
  iif(d.state = 'claimed', d.owner, null), r.id, r.content, r.metadata, r.checksum))
from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join asks as a on a.seq = m.seq
cross join deliveries as d on d.seq = m.seq
left join messages as r on r.seq = a.answer_seq

-- name: find_ended_asks
-- Those that are open are none of the rows; those that do not exist have a row without an ask.
select json_group_array(json_array(wanted.value, iif(a.ask_state is null, null, a.session_id),
  iif(a.ask_state is null, null, a.sender_id), iif(a.ask_state is null, null, a.recipient_id), a.ask_state, a.ask_origin,
  a.ask_deadline_at, a.ask_reason, null, r.id, r.content, r.metadata, r.checksum))
from jsonb_each(:ids) as wanted
left join messages as m on m.id = wanted.value
left join deliveries as a on a.seq = m.seq
left join messages as r on r.seq = a.ask_answer_seq
where a.ask_state is not 'open'

-- name: list_open_asks
-- The index of open asks is read whole: it is as long as there are callers that wait.
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, d.thread, m.topic, a.deadline_at) order by m.seq)
from (
  select seq, ask_deadline_at as deadline_at from deliveries indexed by asks_open
  where recipient_id = :responder and ask_state = 'open' order by seq limit :limit offset :offset
) as a cross join messages as m on m.seq = a.seq cross join deliveries as d on d.seq = a.seq

-- name: close_asks_find
select json_group_array(json_array(a.seq, a.state, a.answer_seq)) from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join asks as a on a.seq = m.seq
where :responder is null or a.responder_id = :responder

-- name: close_asks_unread
-- Read since it was stored, by the call that has given up now. What its recipient read later, in another way, stays read.
update deliveries set read_at = null where seq in (select value from jsonb_each(:seqs)) and read_at = settled_at

-- name: register_wait
-- That of a process which others took for dead holds nothing: nobody would remove it any more.
insert into waits (id, recipient_id, sender_id, thread, process_id, until_due, within)
select :wait, r.id, s.id, :thread, :owner, iif(
  exists (select 1 from processes where id = :owner and ended_at is not null), 0, :until
), (select seq from messages where id = :within) from agents as r cross join agents as s
where r.id = :recipient and s.id = :sender
on conflict (id) do nothing

-- name: has_wait
select exists (select 1 from waits where id = :wait)

-- name: find_waits
-- Those that are neither ready nor ended are none of the rows.
select json_group_array(json_array(id, is_there, is_ready, is_ended)) from (
  select wanted.value as id, w.id is not null as is_there, w.is_ended, exists (
    select 1 from deliveries as d indexed by deliveries_ready cross join messages as m on m.seq = d.seq
    where d.recipient_id = w.recipient_id and d.kind = 'conversation' and d.lane = w.sender_id || coalesce(w.thread, '')
      and d.state = 'queued' and d.run_due = 0 and (d.expires_due is null or d.expires_due > :now) and d.read_at is null
      and m.message_type = 'user_defined'
  ) or (w.thread is null and (exists (
    select 1 from deliveries as d indexed by deliveries_threads cross join messages as m on m.seq = d.seq
    where d.recipient_id = w.recipient_id and d.sender_id = w.sender_id and d.thread <> ''
      and d.state = 'queued' and d.run_due = 0 and (d.expires_due is null or d.expires_due > :now) and d.read_at is null
      and m.message_type = 'user_defined'
  ) or exists (
    select 1 from deliveries as d cross join messages as m on m.seq = d.seq
    where d.recipient_id = w.recipient_id and d.kind = 'conversation' and d.sender_id = w.sender_id
      and d.state = 'done' and d.token = 0 and d.read_at is null and m.message_type = 'user_defined'
  ))) or (w.thread is not null and exists (
    select 1 from deliveries as d indexed by deliveries_left_in cross join messages as m on m.seq = d.seq
    where d.recipient_id = w.recipient_id and d.kind = 'conversation' and d.sender_id = w.sender_id and d.thread = w.thread
      and d.thread <> '' and d.state = 'done' and d.token = 0 and d.read_at is null and m.message_type = 'user_defined'
  )) as is_ready
  from jsonb_each(:ids) as wanted left join waits as w on w.id = wanted.value
) where not is_there or is_ready or is_ended

-- name: take_find
-- The oldest of what is queued in the main thread, or the one that is named; of what is queued in the others; and of what no
-- handler had.
select json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum, m.created_at, null,
  m.session_id, m.message_type, d.thread)
from (
  select min(seq) as seq from (
    select seq from (
      select d.seq from deliveries as d indexed by deliveries_ready cross join messages as m on m.seq = d.seq
      where d.recipient_id = :recipient and d.kind = 'conversation' and d.lane = :sender || coalesce(:thread, '')
        and d.state = 'queued' and d.run_due = 0 and (d.expires_due is null or d.expires_due > :now)
        and d.read_at is null and m.message_type = 'user_defined'
      order by d.seq limit 1
    )
    union all
    select seq from (
      select d.seq from deliveries as d indexed by deliveries_threads cross join messages as m on m.seq = d.seq
      where :thread is null and d.recipient_id = :recipient and d.sender_id = :sender and d.thread <> ''
        and d.state = 'queued' and d.run_due = 0 and (d.expires_due is null or d.expires_due > :now)
        and d.read_at is null and m.message_type = 'user_defined'
      order by d.seq limit 1
    )
    union all
    select seq from (
      select d.seq from deliveries as d indexed by deliveries_left cross join messages as m on m.seq = d.seq
      where :thread is null and d.recipient_id = :recipient and d.kind = 'conversation' and d.sender_id = :sender
        and d.state = 'done' and d.token = 0 and d.read_at is null and m.message_type = 'user_defined'
      order by d.seq limit 1
    )
    union all
    select seq from (
      select d.seq from deliveries as d indexed by deliveries_left_in cross join messages as m on m.seq = d.seq
      where d.recipient_id = :recipient and d.kind = 'conversation' and d.sender_id = :sender and d.thread = :thread
        and d.thread <> '' and d.state = 'done' and d.token = 0 and d.read_at is null and m.message_type = 'user_defined'
      order by d.seq limit 1
    )
  )
) as oldest cross join messages as m on m.seq = oldest.seq cross join deliveries as d on d.seq = oldest.seq

-- name: remove_wait
delete from waits where id = :wait

-- name: take_notices_find
-- None behind the one with which they reach so many bytes. The sizes are known without reading what they are of.
with page as materialized (
  select i.seq from (
    select n.seq, sum(octet_length(m.content) + coalesce(octet_length(m.metadata), 0)) over (
      order by n.seq rows between unbounded preceding and 1 preceding
    ) as before
    from (
      select n.seq from jsonb_each(:recipients) as wanted
      cross join notices as n on n.recipient_id = wanted.value and n.created_due >= :since and n.created_due <= :now
      order by n.seq limit :limit
    ) as n cross join messages as m on m.seq = n.seq
  ) as i where coalesce(i.before, 0) < :most_bytes
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, '')))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: take_notices_find_all
with page as materialized (
  select i.seq from (
    select n.seq, sum(octet_length(m.content) + coalesce(octet_length(m.metadata), 0)) over (
      order by n.seq rows between unbounded preceding and 1 preceding
    ) as before
    from (
      select seq from notices where created_due >= :since and created_due <= :now order by seq limit :limit
    ) as n cross join messages as m on m.seq = n.seq
  ) as i where coalesce(i.before, 0) < :most_bytes
)
select json_group_array(json_array(m.seq, m.id, m.kind, m.sender_id, m.recipient_id, m.content, m.metadata, m.checksum,
  m.created_at, d.read_at, m.session_id, m.message_type, coalesce(d.thread, '')))
from page cross join messages as m on m.seq = page.seq left join deliveries as d on d.seq = page.seq

-- name: take_notices
delete from notices where seq in (select value from jsonb_each(:seqs))

-- name: drop_notices
delete from notices where seq in (
  select seq from notices where created_due < :before order by created_due limit :limit
)
