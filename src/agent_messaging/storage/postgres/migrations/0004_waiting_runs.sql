-- An agent's own code may wait for a message within a handler: that run does not hold its lane, as one that asks.

alter table waits add column within bigint;    -- the message in whose run it waits

create index waits_within on waits (within) where within is not null;

-- The messages whose runs wait for somebody, and hold no lane meanwhile.
create view waiting_runs as
select within from asks where state = 'open' and within is not null
union all
select within from waits where within is not null;

-- The waits that somebody lives for; those whose time is over are still among them.
create view live_waits as
select w.* from waits w left join processes p on p.id = w.process_id
where not w.is_ended and p.ended_at is null;
