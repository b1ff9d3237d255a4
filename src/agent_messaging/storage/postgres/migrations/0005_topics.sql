-- Topics: who is subscribed to what, and where a message was published.

create table subscriptions (
  pattern text collate "C" not null,
  agent_id uuid not null references agents (id) on delete cascade,
  created_at instant not null,
  primary key (pattern, agent_id)
);

create index subscriptions_of_agent on subscriptions (agent_id, pattern);

alter table messages add column topic text;     -- of a publication
