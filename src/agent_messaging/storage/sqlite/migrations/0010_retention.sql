-- Retention: how far each kind was pruned, and when it is somebody's turn to prune it.

create table retention (
  kind text primary key,
  newest_pruned text not null default '',   -- the greatest id that was ever pruned
  turn_due integer not null default 0       -- from then on a process may prune it by itself
) without rowid, strict;

insert into retention (kind) values
  ('messages'), ('dead_letters'), ('sessions'), ('meetings'), ('idempotency_keys'), ('tasks'), ('queue_messages');

-- Sessions that may be in a thread named after a message, and so are of a run.
create index sessions_of_runs on sessions (thread) where ended_at is null and length(thread) = 36;

-- Those whose run is over, because its message has ended: of all threads those of runs alone are named after a message.
create view unused_sessions as
select s.id from sessions as s indexed by sessions_of_runs
cross join messages as m on m.id = s.thread
cross join deliveries as d on d.seq = m.seq
where s.ended_at is null and length(s.thread) = 36 and d.state not in ('queued', 'claimed')
  and not exists (
    select 1 from asks as a where a.asker_id = s.agent_a_id and a.responder_id = s.agent_b_id and a.session_id = s.id
      and a.state = 'open'
  )
  and not exists (
    select 1 from asks as a where a.asker_id = s.agent_b_id and a.responder_id = s.agent_a_id and a.session_id = s.id
      and a.state = 'open'
  )
  and not exists (
    select 1 from waits as w where w.thread = s.thread and w.is_ended = 0 and (w.recipient_id, w.sender_id) in (
      values (s.agent_a_id, s.agent_b_id), (s.agent_b_id, s.agent_a_id)
    )
  );
