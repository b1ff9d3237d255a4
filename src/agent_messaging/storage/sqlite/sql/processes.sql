-- name: publish_clear
delete from services where process_id = :process

-- name: publish_insert
insert into services (process_id, agent_id, kind, explicit, slots)
select :process, value ->> 0, value ->> 1, max(value ->> 2), max(value ->> 3)
from jsonb_each(:rows)
where exists (select 1 from processes where id = :process)
group by 2, 3

-- name: list_processes
select json_group_array(json_array(p.id, p.host, p.pid, p.started_at, p.ended_at, p.end_reason, p.ended_due, json((
  select json_group_array(json_array(s.agent_id, s.kind, s.explicit, s.slots)) from services as s where s.process_id = p.id
))))
from processes as p where p.ended_at is null or p.ended_due >= :since

-- name: find_processes
select json_group_array(json_array(p.id, p.host, p.pid))
from jsonb_each(:ids) as wanted cross join processes as p on p.id = wanted.value

-- name: retire
update processes set ended_at = :at, ended_due = :now, end_reason = 'stopped' where id = :process and ended_at is null

-- name: retire_claims
-- As if they had been settled as returned: an orderly end is nobody's fault, so nothing is counted or suspected.
update deliveries set
  state = 'queued', attempt = max(attempt - 1, 0), suspect = 0, run_due = 0, run_at = null, queued_due = :now,
  claim_until_due = null,
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'returned', 'attempt', attempt,
    'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', 'the process stopped'))
where state = 'claimed' and owner = :process

-- name: release_mark
update processes set ended_at = :at, ended_due = :now, end_reason = 'died'
where id in (select value from jsonb_each(:processes)) and ended_at is null

-- name: release_find
-- Those of the processes whose death has not been dealt with.
select json_group_array(id) from processes
where id in (select value from jsonb_each(:processes)) and ended_at is null

-- name: release_claims
-- The blame is found before anything changes (an UPDATE FROM gathers its source first): the suspects that a process had
-- claimed, or, if it had none, all that it had claimed.
update deliveries set
  state = iif(lost.blamed and attempt >= max_attempts, 'dead', 'queued'),
  attempt = max(attempt - iif(lost.blamed, 0, 1), 0),
  suspect = iif(lost.blamed, 1, suspect),
  run_due = 0,
  queued_due = :now,
  claim_until_due = null,
  settled_at = iif(lost.blamed and attempt >= max_attempts, :at, null),
  log = json_insert(iif(json_valid(log), log, '[]'), '$[#]', json_object('at', :at, 'event', 'lost', 'attempt', attempt,
    'token', token, 'process', owner, 'claimed_at', claimed_at, 'reason', 'process died'))
from (
  select seq, suspect = max(suspect) over (partition by owner) as blamed
  from deliveries where state = 'claimed' and owner in (select value from jsonb_each(:processes))
) as lost
where deliveries.seq = lost.seq

-- name: presence_start
insert into processes (id, host, pid, boot_id, lock_name, doorbell_port, started_at)
values (:process, :host, :pid, :boot_id, :lock_name, :port, :at)

-- name: presence_find
select exists (select 1 from processes where id = :process and end_reason is not 'died')

-- name: presence_list
select json_group_array(json_array(id, lock_name, doorbell_port)) from processes where ended_at is null

-- name: presence_list_locks
select json_group_array(distinct lock_name) from processes as p
where ended_at is not null
  and not exists (select 1 from processes as l where l.lock_name = p.lock_name and l.ended_at is null)

-- name: presence_prune
delete from processes where ended_at is not null and ended_due < :before
