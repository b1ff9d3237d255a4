-- Topics: who is subscribed to what, and where a message was published.

create table subscriptions (
  pattern text collate "C" not null,
  agent_id uuid not null references agents (id) on delete cascade,
  created_at timestamptz not null,
  primary key (pattern, agent_id),
  check (created_at >= '0001-01-01 00:00+00' and created_at < '10000-01-01 00:00+00')
);

create index subscriptions_of_agent on subscriptions (agent_id, pattern);

alter table messages add column topic text;     -- of a publication
