-- name: queue_put
-- :rows are (agent, message id, sender, type, priority, content, metadata, checksum, max_attempts, expires_due, expires_at).
-- What the queue has already is looked for before (queue_find): one writer at a time.
insert into queue_messages (agent_id, message_id, sender_id, type, priority, content, metadata, checksum, max_attempts,
  expires_due, expires_at, queued_due, created_at)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
  value ->> 9, value ->> 10, :now, :at
from jsonb_each(:rows) order by key

-- name: queue_find
-- :names are (agent, message id).
select json_group_array(json_array(q.agent_id, q.message_id, q.seq, q.state, q.token, q.attempt, q.max_attempts,
  q.ended_as, q.owner, q.suspect))
from jsonb_each(:names) as wanted
cross join queue_messages as q on q.agent_id = wanted.value ->> 0 and q.message_id = wanted.value ->> 1

-- name: queue_find_listeners
select json_group_array(distinct l.process_id) from jsonb_each(:agents) as wanted
cross join queue_listeners as l on l.agent_id = wanted.value

-- name: queue_claim_find
-- By priority, and oldest first within one. What is behind the message that reaches :most_bytes waits for the next call. Of
-- suspects a process has one at a time: the first one, if it has none.
select json_group_array(seq) from (
  select seq, sum(size) over (order by priority, seq rows between unbounded preceding and 1 preceding) as before from (
    select seq, priority, octet_length(content) + octet_length(coalesce(metadata, '')) as size from queue_messages
    where agent_id = :agent and state = 'queued' and run_due = 0 and (expires_due is null or expires_due > :now)
      and (:types is null or type in (select value from json_each(:types)))
      and not exists (select 1 from processes where id = :owner and ended_at is not null)
      and (suspect = 0 or seq = (
        select seq from queue_messages indexed by queue_suspect
        where agent_id = :agent and state = 'queued' and run_due = 0 and suspect = 1
          and (expires_due is null or expires_due > :now)
          and (:types is null or type in (select value from json_each(:types)))
          and not exists (select 1 from queue_messages where state = 'claimed' and owner = :owner and suspect = 1)
        order by priority, seq limit 1
      ))
    order by priority, seq limit :limit
  )
) where coalesce(before, 0) < :most_bytes

-- name: queue_claim
-- A damaged number does not rise past what all readers take; it would refuse all rows of the statement.
update queue_messages set state = 'claimed', token = min(token + 1, 9007199254740991),
  attempt = min(attempt + 1, 9007199254740991), owner = :owner, claimed_at = :at, claim_until_due = :until, ended_as = null
where seq in (select value from jsonb_each(:seqs))

-- name: queue_claim_read
select json_group_array(json_array(agent_id, message_id, token, attempt, sender_id, type, priority, content, metadata,
  checksum, max_attempts, created_at, expires_at) order by priority, seq)
from queue_messages where seq in (select value from jsonb_each(:seqs))

-- name: queue_end
-- :rows are (seq, state, attempt, run_due, how it ended, reason, 1 if that is final, suspect).
update queue_messages set state = moved.state, attempt = moved.attempt, run_due = moved.run_due, queued_due = :now,
  claim_until_due = null, suspect = moved.suspect, ended_as = moved.ended_as, reason = moved.reason,
  settled_at = iif(moved.final, :at, null), settled_due = iif(moved.final, :now, null)
from (
  select value ->> 0 as seq, value ->> 1 as state, value ->> 2 as attempt, value ->> 3 as run_due, value ->> 4 as ended_as,
    value ->> 5 as reason, value ->> 6 as final, value ->> 7 as suspect
  from jsonb_each(:rows)
) as moved
where queue_messages.seq = moved.seq

-- name: queue_renew
update queue_messages set claim_until_due = :until where seq in (select value from jsonb_each(:seqs))

-- name: queue_find_claimed
-- What these processes have claimed.
select json_group_array(json_array(seq, state, token, attempt, max_attempts, ended_as, owner, suspect))
from queue_messages indexed by queue_claimed
where state = 'claimed' and owner in (select value from jsonb_each(:owners))

-- name: queue_find_overdue
select json_group_array(json_array(seq, state, token, attempt, max_attempts, ended_as, owner, suspect)) from (
  select * from queue_messages indexed by queue_claimed
  where state = 'claimed' and claim_until_due <= :now limit :limit
)

-- name: queue_next
select json_array(
  (select min(claim_until_due) from queue_messages indexed by queue_claimed where state = 'claimed'),
  (select min(expires_due) from queue_messages where state = 'queued' and expires_due is not null),
  (select min(run_due) from queue_messages where state = 'queued' and run_due > 0)
)

-- name: queue_expire
update queue_messages set state = 'expired', run_due = 0, settled_at = :at, settled_due = :now, ended_as = 'expired' where seq in (
  select seq from queue_messages where state = 'queued' and expires_due <= :now order by expires_due limit :limit
)

-- name: queue_due
update queue_messages set queued_due = run_due, run_due = 0 where seq in (
  select seq from queue_messages where state = 'queued' and run_due > 0 and run_due <= :now order by run_due limit :limit
)

-- name: queue_listen_clear
delete from queue_listeners where process_id in (select value from jsonb_each(:processes))

-- name: queue_listen
insert into queue_listeners (agent_id, process_id)
select value, :process from jsonb_each(:agents)
where not exists (select 1 from processes where id = :process and ended_at is not null)

-- name: queue_list
select json_group_array(json_array(agent_id, message_id, sender_id, type, priority, content, metadata, checksum, state,
  token, attempt, max_attempts, owner, created_at, expires_at, claimed_at, settled_at, reason)) from (
  select * from queue_messages
  where (:agent is null or agent_id = :agent) and (:states is null or state in (select value from json_each(:states)))
  order by seq desc limit :limit offset :offset
)

-- name: queue_redrive
update queue_messages set state = 'queued', attempt = 0, suspect = 0, run_due = 0, queued_due = :now, expires_due = null,
  expires_at = null, settled_at = null, settled_due = null, ended_as = null
where state = 'dead' and (:agent is null or agent_id = :agent)
  and (:ids is null or message_id in (select value from json_each(:ids)))

-- name: queue_statistics
-- The counts are kept; the oldest that waits is the first of an agent and a priority.
with level (priority) as (values (0), (1), (2), (3), (4))
select json_array(
  json((select json_group_object(what, number) from (
    select what, sum(number) as number from queue_counts where :agent is null or agent_id = :agent
    group by what having sum(number) <> 0
  ))),
  (select count(*) from queue_messages indexed by queue_settled
   where settled_due is not null and settled_due > :since and (:agent is null or agent_id = :agent)),
  (select min(q.created_at) from queue_counts as c cross join level as l cross join queue_messages as q on q.seq = (
     select seq from queue_messages indexed by queue_ready
     where agent_id = c.agent_id and priority = l.priority and state = 'queued' and run_due = 0
     order by seq limit 1
   )
   where c.what = 'queued' and c.number > 0 and (:agent is null or c.agent_id = :agent))
)

-- name: queue_prune
delete from queue_messages where seq in (
  select seq from queue_messages where settled_due is not null and settled_due < :before
    and (:states is null or state in (select value from json_each(:states)))
  order by settled_due limit :limit
)

-- name: queue_measure
select json_array(count(*), coalesce(sum(octet_length(content) + coalesce(octet_length(metadata), 0)), 0))
from queue_messages where settled_due is not null and settled_due < :before
  and (:states is null or state in (select value from json_each(:states)))
