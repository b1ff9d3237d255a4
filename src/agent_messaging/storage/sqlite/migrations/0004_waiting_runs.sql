-- An agent's own code may wait for a message within a handler: that run does not hold its lane, as one that asks.

alter table waits add column within integer;    -- the message in whose run it waits

create index waits_within on waits (within) where within is not null;

-- The messages whose runs wait for somebody, and hold no lane meanwhile.
create view waiting_runs as
select within from asks where state = 'open' and within is not null
union all
select within from waits where within is not null;
