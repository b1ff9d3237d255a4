-- The coordination: queues of messages, workers, tasks.
--
-- Names are external ids of any kind, so nothing here refers to agents. `ended_as` tells how the newest claim ended, and is
-- null while it is open; it decides whether a settlement is a repeat.

create table queue_messages (
  seq integer primary key autoincrement,
  agent_id text not null,
  message_id text not null,
  sender_id text not null,
  type text not null,
  priority integer not null,
  content text not null,
  metadata text,
  checksum integer not null,
  state text not null default 'queued' check (state in ('queued', 'claimed', 'done', 'dead', 'expired')),
  token integer not null default 0,
  attempt integer not null default 0,
  max_attempts integer not null,
  owner text,
  suspect integer not null default 0,       -- a process died that had it
  run_due integer not null default 0,       -- 0: due; otherwise when it becomes due
  expires_due integer,
  expires_at integer,
  claim_until_due integer,                  -- the end of the lease
  ended_as text,
  reason text,
  queued_due integer not null,
  created_at integer not null,
  claimed_at integer,
  settled_at integer,
  settled_due integer,
  unique (agent_id, message_id)
) strict;

create index queue_ready on queue_messages (agent_id, priority, seq) where state = 'queued' and run_due = 0;
create index queue_suspect on queue_messages (agent_id, priority, seq)
  where state = 'queued' and run_due = 0 and suspect = 1;
create index queue_scheduled on queue_messages (run_due) where state = 'queued' and run_due > 0;
create index queue_claimed on queue_messages (owner, claim_until_due) where state = 'claimed';
create index queue_expiring on queue_messages (expires_due) where state = 'queued' and expires_due is not null;
create index queue_dead on queue_messages (agent_id, seq) where state = 'dead';
create index queue_settled on queue_messages (settled_due) where settled_due is not null;

-- How many messages of an agent are in each state, have failed (they are done, with a reason), and are open by priority (p0 to
-- p4), so that nobody has to count them. Triggers keep them, so no statement can forget them.
create table queue_counts (
  agent_id text not null,
  what text not null,
  number integer not null,
  primary key (agent_id, what)
) without rowid, strict;

create trigger queue_counts_insert after insert on queue_messages begin
  insert into queue_counts (agent_id, what, number)
  select new.agent_id, value, 1 from json_each(json_array(new.state,
    iif(new.state in ('queued', 'claimed'), 'p' || new.priority, null),
    iif(new.state = 'done' and new.reason is not null, 'failed', null))) where value is not null
  on conflict (agent_id, what) do update set number = number + 1;
end;

create trigger queue_counts_update after update of state on queue_messages when old.state <> new.state begin
  update queue_counts set number = number - 1 where agent_id = old.agent_id and what = old.state;
  insert into queue_counts (agent_id, what, number) values (new.agent_id, new.state, 1)
  on conflict (agent_id, what) do update set number = number + 1;
  insert into queue_counts (agent_id, what, number)
  select new.agent_id, 'p' || new.priority, iif(new.state in ('queued', 'claimed'), 1, -1)
  where (new.state in ('queued', 'claimed')) <> (old.state in ('queued', 'claimed'))
  on conflict (agent_id, what) do update set number = number + excluded.number;
  insert into queue_counts (agent_id, what, number)
  select new.agent_id, 'failed', 1 where new.state = 'done' and new.reason is not null
  on conflict (agent_id, what) do update set number = number + 1;
end;

create trigger queue_counts_delete after delete on queue_messages begin
  update queue_counts set number = number - 1 where agent_id = old.agent_id and (what = old.state
    or (what = 'p' || old.priority and old.state in ('queued', 'claimed'))
    or (what = 'failed' and old.state = 'done' and old.reason is not null));
  delete from queue_counts where agent_id = old.agent_id and number = 0;
end;

-- The processes that wait for messages of an agent.
create table queue_listeners (
  agent_id text not null,
  process_id text not null,
  primary key (agent_id, process_id)
) without rowid, strict;

create index queue_listeners_of on queue_listeners (process_id);

create table workers (
  id text primary key,
  role text not null,
  capabilities text not null,               -- JSON array
  capacity integer not null check (capacity > 0),
  status text not null,
  alive_until_due integer not null,
  booked integer not null default 0,        -- its tasks that are assigned or running
  reported integer not null default 0,      -- as it says itself
  load real generated always as (max(booked, reported) * 1.0 / capacity) stored,
  pulls integer not null,
  metadata text,
  registered_at integer not null,
  heartbeat_at integer not null,
  idle_at integer not null
) without rowid, strict;

create index workers_in_order on workers (capabilities, load, idle_at, id) where status in ('active', 'idle');
create index workers_alive on workers (alive_until_due);
create index workers_told on workers (alive_until_due) where pulls = 0 and booked > 0;

-- The processes that serve a worker which pulls.
create table worker_processes (
  worker_id text not null references workers (id) on delete cascade,
  process_id text not null,
  primary key (worker_id, process_id)
) without rowid, strict;

create index worker_processes_of on worker_processes (process_id);

create table tasks (
  seq integer primary key autoincrement,
  id text not null unique,
  type text not null,
  description text not null,
  needs text not null,                      -- JSON array, in order
  priority integer not null,
  content text not null,
  checksum integer not null,
  message text,                             -- JSON: what its worker is told, if it was assigned
  trace text,                               -- JSON: what observers have it carry
  is_assigned integer not null,             -- it was handed out to a worker, and not put into the pool
  supervisor text,
  origin text,
  state text not null check (state in ('queued', 'assigned', 'running', 'done', 'failed', 'cancelled', 'expired')),
  token integer not null default 0,
  attempt integer not null default 0,
  max_attempts integer not null,
  worker_id text,
  owner text,
  suspect integer not null default 0,       -- a process died that ran it
  run_limit real,
  run_due integer not null default 0,       -- 0: due; otherwise when it becomes due
  deadline_due integer,
  deadline_at integer,
  until_due integer,                        -- when the booking or the run is overdue
  ended_as text,
  reason text,
  result text,
  result_checksum integer,
  fraction real not null default 0,
  note text,
  log text,                                 -- JSON array of what went wrong so far; null is []
  queued_due integer not null,
  created_at integer not null,
  assigned_at integer,
  settled_at integer,
  settled_due integer
) strict;

create index tasks_ready on tasks (needs, type, suspect, priority, seq) where state = 'queued' and run_due = 0;
create index tasks_to_assign on tasks (needs, priority, seq) where state = 'queued' and run_due = 0 and is_assigned = 1;
create index tasks_scheduled on tasks (run_due) where state = 'queued' and run_due > 0;
create index tasks_held on tasks (worker_id, state) where state in ('assigned', 'running');
create index tasks_run on tasks (owner, suspect) where state = 'running';
create index tasks_until on tasks (until_due) where state in ('assigned', 'running') and until_due is not null;
create index tasks_deadline on tasks (deadline_due)
  where state in ('queued', 'assigned', 'running') and deadline_due is not null;
create index tasks_listed on tasks (state, seq) where state not in ('assigned', 'running');
create index tasks_settled on tasks (state, settled_due) where settled_due is not null;
create index tasks_of_supervisor on tasks (supervisor, seq) where supervisor is not null;
create index tasks_open_of on tasks (supervisor, seq)
  where supervisor is not null and state in ('queued', 'assigned', 'running');
create index tasks_done_of on tasks (supervisor, settled_due) where supervisor is not null and state = 'done';

-- How many tasks of a supervisor ('' is none) are in each state, kept as queue_counts.
create table task_counts (
  supervisor text not null,
  state text not null,
  number integer not null,
  primary key (supervisor, state)
) without rowid, strict;

create trigger task_counts_insert after insert on tasks begin
  insert into task_counts (supervisor, state, number) values (coalesce(new.supervisor, ''), new.state, 1)
  on conflict (supervisor, state) do update set number = number + 1;
end;

create trigger task_counts_update after update of state on tasks when old.state <> new.state begin
  update task_counts set number = number - 1 where supervisor = coalesce(old.supervisor, '') and state = old.state;
  insert into task_counts (supervisor, state, number) values (coalesce(new.supervisor, ''), new.state, 1)
  on conflict (supervisor, state) do update set number = number + 1;
end;

create trigger task_counts_delete after delete on tasks begin
  update task_counts set number = number - 1 where supervisor = coalesce(old.supervisor, '') and state = old.state;
  delete from task_counts where supervisor = coalesce(old.supervisor, '') and number = 0;
end;

create table schedules (
  name text primary key,
  rule text not null,
  zone text not null,
  task text not null,                       -- JSON: what is handed out
  next_at integer not null,
  next_due integer not null,
  since_due integer,                        -- of an interval: from when it runs to next_due
  fired integer not null default 0,
  fired_at integer,
  created_at integer not null
) without rowid, strict;

create index schedules_due on schedules (next_due);
create index schedules_since on schedules (since_due) where since_due is not null;
