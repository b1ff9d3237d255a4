-- Retention: how far each kind was pruned, and when it is somebody's turn to prune it.

create table retention (
  kind text collate "C" primary key,
  newest_pruned text collate "C" not null default '',   -- the greatest id that was ever pruned
  turn_at instant                           -- from then on a process may prune it by itself
);

insert into retention (kind) values
  ('messages'), ('dead_letters'), ('sessions'), ('meetings'), ('idempotency_keys'), ('tasks'), ('queue_messages');

-- Sessions that may be in a thread named after a message, and so are of a run.
create index sessions_of_runs on sessions (thread) where ended_at is null and length(thread) = 36;

-- Those whose run is over, because its message has ended: of all threads those of runs alone are named after a message.
create view unused_sessions as
select s.id, s.thread from sessions s
cross join lateral (
  select d.state from messages m join deliveries d on d.seq = m.seq
  where m.id = case when s.thread ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then s.thread::uuid end limit 1
) r
where s.ended_at is null and length(s.thread) = 36 and r.state not in ('queued', 'claimed')
  and not exists (
    select from asks a where a.asker_id = s.agent_a_id and a.responder_id = s.agent_b_id and a.session_id = s.id
      and a.state = 'open'
  )
  and not exists (
    select from asks a where a.asker_id = s.agent_b_id and a.responder_id = s.agent_a_id and a.session_id = s.id
      and a.state = 'open'
  )
  and not exists (
    select from waits w where w.thread = s.thread and not w.is_ended
      and (w.recipient_id = s.agent_a_id and w.sender_id = s.agent_b_id
        or w.recipient_id = s.agent_b_id and w.sender_id = s.agent_a_id)
  );
