-- Subscriptions. Patterns come in as texts to look up: no statement compares one with a topic.

-- name: topics_share
-- PostgreSQL alone: appends that publish share it from before they match until they commit. It is the first lock that they
-- take, so that nobody waits for one of them while it waits here.
select pg_advisory_xact_lock_shared(hashtextextended('topics', 3))

-- name: topics_lock
-- PostgreSQL alone: a change of subscriptions holds it alone, so none is committed between a match and its commit.
select pg_advisory_xact_lock(hashtextextended('topics', 3))

-- name: subscribe_find
-- Whether there is the agent, and whether it is subscribed already.
select exists (select from agents where id = $2::text::uuid) as known,
  exists (select from subscriptions where pattern = $1 and agent_id = $2::text::uuid) as subscribed

-- name: subscribe
-- Nothing is stored for an agent that is removed meanwhile.
with agent as materialized (
  select id from agents where id = $2::text::uuid for key share
)
insert into subscriptions (pattern, agent_id, created_at)
select $1, a.id, coalesce($3::timestamptz, store_now()) from agent a
on conflict do nothing

-- name: unsubscribe
delete from subscriptions where pattern = $1 and agent_id = $2::text::uuid

-- name: list_subscriptions
select pattern, agent_id::text, created_at from subscriptions order by pattern, agent_id limit $1 offset $2

-- name: list_subscriptions_of
select pattern, agent_id::text, created_at from subscriptions
where agent_id = $3::text::uuid order by pattern limit $1 offset $2

-- name: list_subscriptions_matching
select s.pattern, s.agent_id::text, s.created_at
from unnest($4::text[]) as i (pattern) cross join lateral (
  select * from subscriptions s
  where s.pattern = i.pattern and ($3::text is null or s.agent_id = $3::text::uuid)
  offset 0  -- keeps the planner from reading all subscriptions and comparing each with each pattern
) s
order by s.pattern, s.agent_id limit $1 offset $2

-- name: append_find_subscribers
-- Each subscriber once, whatever number of its patterns match, but not the sender. The locks keep the agents until the
-- commit; one whose removal is under way is waited for, and is left out if that is committed.
with published as materialized (
  -- Arrays, which are indexed: a join would compare each with each.
  select array_agg(p.sender_id order by p.place) as sender_id, array_agg(
    case when p.same then (select a.organization_id from agents a where a.id = p.sender_id) end order by p.place
  ) as organization_id
  from unnest($1::text[]::uuid[], $2::boolean[]) with ordinality as p (sender_id, same, place)
),
matched as materialized (
  -- The inner limit keeps the planner from reading all subscriptions and comparing each with each pattern.
  select distinct i.place, s.agent_id
  from published p, unnest($3::integer[], $4::text[]) as i (place, pattern)
  cross join lateral (
    select s.agent_id from subscriptions s
    where s.pattern = i.pattern and s.agent_id <> p.sender_id[i.place]
      and (p.organization_id[i.place] is null
        or p.organization_id[i.place] = (select o.organization_id from agents o where o.id = s.agent_id))
    order by s.agent_id limit $5
  ) s
  limit $5
)
select m.place, a.id::text as agent_id
from matched m join agents a on a.id = m.agent_id
for key share of a

-- name: append_find_published
-- What is there of publications: their messages have ids from a first one to a last one.
select i.position, m.id::text as message_id, m.recipient_id::text
from unnest($1::integer[], $2::text[]::uuid[], $3::text[]::uuid[]) as i (position, first_id, last_id)
join messages m on m.id between i.first_id and i.last_id
