-- Every read answers one row: a JSON array of all that was found (see engine.fetch for the reason).
-- An empty name is none yet: the first one given takes its place, and it replaces none.

-- name: add_organization
insert into organizations (id, external_id, name, created_at, updated_at)
values (:id, :external_id, :name, :at, :at)
on conflict (external_id) do update set
  name = iif((:update_name or name = '') and excluded.name <> '', excluded.name, name),
  updated_at = iif(
    (:update_name or name = '') and excluded.name not in ('', name), excluded.updated_at, updated_at
  )
returning json_array(id, external_id, name, created_at, updated_at)

-- name: find_organization
select json_array(id, external_id, name, created_at, updated_at) from organizations where external_id = :external_id

-- name: find_organizations_by_id
select json_group_array(json_array(o.id, o.external_id, o.name, o.created_at, o.updated_at))
from jsonb_each(:ids) as wanted cross join organizations as o on o.id = wanted.value

-- name: list_organizations
select json_group_array(json_array(id, external_id, name, created_at, updated_at)) from (
  select * from organizations order by external_id limit :limit offset :offset
)

-- name: remove_organization
delete from organizations where external_id = :external_id

-- name: add_agent
insert into agents (id, external_id, organization_id, name, created_at, updated_at)
select :id, :external_id, id, :name, :at, :at from organizations where id = :organization_id
on conflict (external_id) do update set
  name = iif(
    (:update_name or name = '') and excluded.name <> '' and organization_id = excluded.organization_id,
    excluded.name,
    name
  ),
  updated_at = iif(
    (:update_name or name = '') and excluded.name not in ('', name) and organization_id = excluded.organization_id,
    excluded.updated_at,
    updated_at
  )
returning json_array(id, external_id, organization_id, name, created_at, updated_at)

-- name: find_agents
select json_group_array(json_array(a.id, a.external_id, a.organization_id, a.name, a.created_at, a.updated_at))
from jsonb_each(:external_ids) as wanted cross join agents as a on a.external_id = wanted.value

-- name: find_agents_by_id
select json_group_array(json_array(a.id, a.external_id, a.organization_id, a.name, a.created_at, a.updated_at))
from jsonb_each(:ids) as wanted cross join agents as a on a.id = wanted.value

-- name: list_agents
select json_group_array(json_array(id, external_id, organization_id, name, created_at, updated_at)) from (
  select * from agents
  where external_id >= :starting_with and substr(external_id, 1, length(:starting_with)) = :starting_with
  order by external_id limit :limit offset :offset
)

-- name: list_agents_of
select json_group_array(json_array(id, external_id, organization_id, name, created_at, updated_at)) from (
  select * from agents
  where organization_id = :organization_id
    and external_id >= :starting_with and substr(external_id, 1, length(:starting_with)) = :starting_with
  order by external_id limit :limit offset :offset
)

-- name: remove_agent
delete from agents where external_id = :external_id

-- name: remove_messages
-- What an agent, or the agents of an organization, have sent and received, with all that hangs on it.
with gone as materialized (
  select id from agents where external_id = :agent
  union all
  select a.id from organizations as o cross join agents as a on a.organization_id = o.id
  where o.external_id = :organization
)
delete from messages where seq in (
  select e.seq from gone cross join lists as l on l.owner_id = gone.id and l.name in ('sent', 'received')
  cross join listed as e on e.list = l.number
  union all
  select seq from unfiled
  where (sender_id in (select id from gone) or recipient_id in (select id from gone))
  union all
  select m.seq from gone cross join messages as m indexed by messages_said on m.sender_id = gone.id and m.recipient_id is null
)
