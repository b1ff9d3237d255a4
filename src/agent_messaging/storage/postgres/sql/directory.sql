-- An empty name is none yet: the first one given takes its place, and it replaces none.

-- name: add_organization
insert into organizations (id, external_id, name, created_at, updated_at)
select $1::text::uuid, $2, $3, t.now, t.now from (select store_now() as now) t
on conflict (external_id) do update set
  name = case when ($4::boolean or organizations.name = '') and excluded.name <> ''
    then excluded.name else organizations.name end,
  updated_at = case when ($4 or organizations.name = '') and excluded.name not in ('', organizations.name)
    then excluded.updated_at else organizations.updated_at end
returning id::text, external_id, name, created_at, updated_at

-- name: find_organization
select id::text, external_id, name, created_at, updated_at from organizations where external_id = $1

-- name: find_organizations_by_id
select id::text, external_id, name, created_at, updated_at from organizations where id = any($1::text[]::uuid[])

-- name: list_organizations
select id::text, external_id, name, created_at, updated_at
from organizations order by external_id limit $1 offset $2

-- name: remove_patience
-- PostgreSQL alone: see remove_take_turn.
select current_setting('lock_timeout')

-- name: remove_be_patient
-- PostgreSQL alone: see remove_take_turn.
select set_config('lock_timeout', $1, true)

-- name: remove_take_turn
-- PostgreSQL alone: one removal at a time. Two agents that have written to each other take the same messages with them, each
-- its own first, so their removals would wait for each other in a circle, which takes the server a second to find.
select pg_advisory_xact_lock(hashtextextended('agent-messaging removals ' || current_schema(), 0))

-- name: remove_organization_lock
-- PostgreSQL alone: until the commit it gets no more agents, which would be removed without having left their meetings.
select id::text from organizations where external_id = $1 for update

-- name: remove_organization_lock_agents
-- PostgreSQL alone: see remove_agent_lock.
select id::text from agents where organization_id = $1::text::uuid order by id for no key update

-- name: remove_organization
delete from organizations where id = $1::text::uuid

-- name: add_agent
-- The share lock keeps the organization until the commit, so that its removal cannot come between.
with organization as materialized (
  select id from organizations where id = $3::text::uuid for key share
)
insert into agents (id, external_id, organization_id, name, created_at, updated_at)
select $1::text::uuid, $2, o.id, $4, t.now, t.now from organization o, (select store_now() as now) t
on conflict (external_id) do update set
  name = case when ($5::boolean or agents.name = '') and excluded.name <> ''
      and agents.organization_id = excluded.organization_id
    then excluded.name else agents.name end,
  updated_at = case when ($5 or agents.name = '') and excluded.name not in ('', agents.name)
      and agents.organization_id = excluded.organization_id
    then excluded.updated_at else agents.updated_at end
returning id::text, external_id, organization_id::text, name, created_at, updated_at

-- name: find_agents
select id::text, external_id, organization_id::text, name, created_at, updated_at
from agents where external_id = any($1::text[])

-- name: find_agents_by_id
select id::text, external_id, organization_id::text, name, created_at, updated_at
from agents where id = any($1::text[]::uuid[])

-- name: list_agents
select id::text, external_id, organization_id::text, name, created_at, updated_at
from agents where external_id >= $3 and starts_with(external_id, $3) order by external_id limit $1 offset $2

-- name: list_agents_of
select id::text, external_id, organization_id::text, name, created_at, updated_at
from agents where organization_id = $1::text::uuid and external_id >= $4 and starts_with(external_id, $4)
order by external_id limit $2 offset $3

-- name: remove_agent_lock
-- PostgreSQL alone: until the commit it gets no seat in a new meeting. Not `for update`: see meetings.sql.
select id::text from agents where external_id = $1 for no key update

-- name: remove_agent
delete from agents where id = $1::text::uuid
