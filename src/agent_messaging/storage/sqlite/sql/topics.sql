-- Subscriptions. Patterns come in as texts to look up: no statement compares one with a topic.

-- name: subscribe_find
-- Whether there is the agent, and whether it is subscribed already.
select json_array(
  exists (select 1 from agents where id = :agent),
  exists (select 1 from subscriptions where pattern = :pattern and agent_id = :agent)
)

-- name: subscribe
insert into subscriptions (pattern, agent_id, created_at) values (:pattern, :agent, :at)

-- name: unsubscribe
delete from subscriptions where pattern = :pattern and agent_id = :agent

-- name: list_subscriptions
select json_group_array(json_array(pattern, agent_id, created_at)) from (
  select * from subscriptions order by pattern, agent_id limit :limit offset :offset
)

-- name: list_subscriptions_of
select json_group_array(json_array(pattern, agent_id, created_at)) from (
  select * from subscriptions where agent_id = :agent order by pattern limit :limit offset :offset
)

-- name: list_subscriptions_matching
select json_group_array(json_array(pattern, agent_id, created_at)) from (
  select s.* from jsonb_each(:patterns) as wanted cross join subscriptions as s on s.pattern = wanted.value
  where :agent is null or s.agent_id = :agent
  order by s.pattern, s.agent_id limit :limit offset :offset
)

-- name: append_find_subscribers
-- Each subscriber once, whatever number of its patterns match, but not the sender. A row of an agent that does not exist
-- stops nobody.
with published as materialized (
  select value ->> 0 as position, value ->> 1 as sender_id, value -> 3 as patterns,
    iif(value ->> 2, (select organization_id from agents where id = value ->> 1), null) as organization_id
  from jsonb_each(:publications)
)
select json_group_array(json_array(position, agent_id)) from (
  select distinct p.position, s.agent_id
  from published as p cross join jsonb_each(p.patterns) as wanted
  cross join subscriptions as s on s.pattern = wanted.value
  cross join agents as a on a.id = s.agent_id
  where s.agent_id <> p.sender_id and (p.organization_id is null or a.organization_id = p.organization_id)
  limit :most
)

-- name: append_find_published
-- What is there of publications: their messages have ids from a first one to a last one.
select json_group_array(json_array(wanted.value ->> 0, m.id, m.recipient_id))
from jsonb_each(:ranges) as wanted
cross join messages as m on m.id between wanted.value ->> 1 and wanted.value ->> 2
