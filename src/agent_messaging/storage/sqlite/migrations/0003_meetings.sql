-- Meetings, their participants, turns and events.

create table meetings (
  id text primary key,
  host_id text not null references agents (id) on delete cascade,
  status text not null check (status in ('created', 'ready', 'active', 'ended')),
  selection text not null check (selection in ('round_robin', 'host', 'custom')),
  turn_duration real,                       -- seconds; null: turns do not end by time
  turn integer,                             -- the number of the current turn
  max_attempts integer not null,            -- runs of a turn handler in one turn
  max_turns integer,                        -- turns for speaking with which it ends
  max_duration real,                        -- seconds from the start after which it ends
  host_speaks integer not null default 1 check (host_speaks in (0, 1)),
  end_when integer not null default 0 check (end_when in (0, 1)), -- the host's process is asked after each turn
  turns_taken integer not null default 0,   -- turns for speaking that have ended
  deadline_due integer,                     -- of max_duration, from the start
  deadline_at integer,
  end_reason text check (end_reason in ('host_ended', 'max_turns', 'max_duration', 'end_when', 'nobody')),
  created_at integer not null,
  started_at integer,
  ended_at integer
) without rowid, strict;

create index meetings_of_host on meetings (host_id, id);
create index meetings_by_status on meetings (status, id);

create table participants (
  id text primary key,
  meeting_id text not null references meetings (id) on delete cascade,
  agent_id text not null references agents (id) on delete cascade,
  join_order integer not null,
  status text not null check (status in ('invited', 'attending', 'waiting', 'speaking', 'left')),
  process_id text,                          -- to be woken when the agent gets the turn
  joined_at integer,
  left_at integer,
  unique (meeting_id, join_order),
  unique (meeting_id, agent_id)
) without rowid, strict;

create index participants_of_agent on participants (agent_id, meeting_id);

create table turns (
  meeting_id text not null references meetings (id) on delete cascade,
  number integer not null,
  agent_id text not null,                   -- stays when the agent is removed: the turn was taken
  purpose text not null check (purpose in ('speak', 'select')),
  next_id text,                             -- of one for selecting: who follows unless the host's process says otherwise
  started_at integer not null,
  deadline_due integer,
  deadline_at integer,
  ended_at integer,
  how text check (how in ('spoke', 'passed', 'timed_out', 'skipped', 'left', 'meeting_ended')),
  delivery_seq integer,
  message_seq integer,
  primary key (meeting_id, number)
) without rowid, strict;

create unique index turns_current on turns (meeting_id) where ended_at is null;
create index turns_deadline on turns (deadline_due) where ended_at is null and deadline_due is not null;

create index messages_of_meeting on messages (meeting_id, seq) where meeting_id is not null;

create table meeting_events (
  seq integer primary key autoincrement,
  meeting_id text not null references meetings (id) on delete cascade,
  type text not null,
  agent_id text,
  data text not null,                       -- JSON object
  checksum integer not null,                -- of the data, as of a message's content
  message_seq integer,
  created_at integer not null
) strict;

create index meeting_events_of_meeting on meeting_events (meeting_id, seq);
