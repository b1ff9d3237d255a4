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

-- What claims look past.

-- While somebody's snapshot stays open, the server keeps every version of every row, and with it the entries of the indices of
-- deliveries for all that was handled since: each claim would read past them. So for the mailboxes (recipient and kind) that
-- have traffic then, it is remembered up to which seq nothing is due or claimed any more: a *floor*. Looks that begin behind it
-- pass nothing of that. The highest one counts, which is found first from above; one that is raised is another row, because a
-- row that is changed leaves versions in the way itself.
create table floors (
  recipient_id uuid not null,
  kind text collate "C" not null,
  seq bigint not null,
  primary key (recipient_id, kind, seq)
);

-- What is open though it was read; deliveries_unread has the rest.
create index deliveries_read_open on deliveries (recipient_id, kind, (seq + 0))
  where read_at is not null and state in ('queued', 'claimed');

-- The lanes of a mailbox with a floor that have something due, in round-robin order: those of the next thousand messages behind
-- the floor; and of a longer mailbox also the others, which are looked for between them, so that nothing is read of those.
create function near_lanes(recipient_id uuid, kind text, floor bigint, after_sender uuid, after_thread text)
returns table (sender_id uuid, thread text, step integer) language plpgsql as $$
#variable_conflict use_column
declare
  box_id uuid := recipient_id;
  box_kind text := kind;
  seen integer;
  senders uuid[];
  threads text[];
  lanes integer;
  next_lane record;
  low_sender uuid;
  low_thread text;
begin
  select count(*), array_agg(n.sender_id) filter (where n.is_due), array_agg(n.thread) filter (where n.is_due)
  into seen, senders, threads
  from (
    (select d.sender_id, d.thread, d.state || '' = 'queued' and (d.run_at is null) is true as is_due from deliveries d
     where d.recipient_id = box_id and d.kind = box_kind and d.seq + 0 > floor and d.read_at is null
     order by d.seq + 0 limit 1000)
    union all
    (select d.sender_id, d.thread, d.state || '' = 'queued' and (d.run_at is null) is true from deliveries d
     where d.recipient_id = box_id and d.kind = box_kind and d.seq + 0 > floor and d.read_at is not null
       and d.state in ('queued', 'claimed')
     order by d.seq + 0 limit 1000)
  ) n;
  select array_agg(l.sender_id), array_agg(l.thread) into senders, threads
  from (
    select distinct i.sender_id, i.thread collate "C" as thread from unnest(senders, threads) as i (sender_id, thread) order by 1, 2
  ) l;
  lanes := coalesce(cardinality(senders), 0);
  if seen >= 1000 and lanes < 64 then
    for n in 0 .. lanes loop
      low_sender := coalesce(senders[n], '00000000-0000-0000-0000-000000000000');
      low_thread := coalesce(threads[n], '');
      loop
        select d.sender_id, d.thread into next_lane from deliveries d
        where d.recipient_id = box_id and d.kind = box_kind and (d.sender_id, d.thread) > (low_sender, low_thread)
          and (n = lanes or (d.sender_id, d.thread) < (senders[n + 1], threads[n + 1]))
          and d.state = 'queued' and d.run_at is null
        order by d.sender_id, d.thread limit 1;
        exit when not found or cardinality(senders) >= 256;
        low_sender := next_lane.sender_id;
        low_thread := next_lane.thread;
        senders := senders || low_sender;
        threads := threads || low_thread;
      end loop;
    end loop;
  end if;
  return query
  select l.sender_id, l.thread, (row_number() over (order by l.is_behind, l.sender_id, l.thread))::integer from (
    select i.sender_id, i.thread collate "C" as thread,
      ((i.sender_id, i.thread collate "C") > (after_sender, after_thread collate "C")) is false as is_behind
    from unnest(senders, threads) as i (sender_id, thread)
  ) l
  order by 3 limit 256;
end $$;

-- find_lanes and find_any for one mailbox that has a floor.
create function find_near(
  recipient_id uuid, kind text, most integer, after_sender uuid, origin uuid, after_thread text, is_ordered boolean,
  floor bigint, at timestamptz
) returns table (step integer, seq bigint, suspect boolean) language plpgsql as $$
#variable_conflict use_column
declare
  box_id uuid := recipient_id;
  box_kind text := kind;
  of_origin uuid := origin;
begin
  return query
  with ready as materialized (
    select l.sender_id, l.thread, l.step, o.seq, o.suspect, o.rank
    from near_lanes(box_id, box_kind, floor, after_sender, after_thread) l
    cross join lateral (
      select h.*, row_number() over (order by h.seq) as rank from (
        -- Suspects are taken one at a time. Without an order nothing waits for them.
        (select d.seq, d.suspect, d.origin from deliveries d
         where d.recipient_id = box_id and d.kind = box_kind and d.sender_id = l.sender_id and d.thread = l.thread
           and d.seq + 0 > floor and d.state = 'queued' and d.run_at is null and (d.expires_at is null or d.expires_at > at)
           and (is_ordered or not d.suspect and (of_origin is null or d.origin = of_origin))
         order by d.seq + 0 limit case when is_ordered then 1 else most end)
        union all
        (select d.seq, d.suspect, d.origin from deliveries d
         where not is_ordered and d.recipient_id = box_id and d.kind = box_kind and d.sender_id = l.sender_id
           and d.thread = l.thread and d.seq + 0 > floor and d.state = 'queued' and d.run_at is null
           and (d.expires_at is null or d.expires_at > at) and d.suspect and (of_origin is null or d.origin = of_origin)
         order by d.seq + 0 limit 1)
      ) h
    ) o
    where (of_origin is null or o.origin = of_origin)
      and (not is_ordered or (
        select true from deliveries c
        where c.recipient_id = box_id and c.kind = box_kind and c.sender_id = l.sender_id and c.thread = l.thread
          and c.seq + 0 > floor and c.state = 'claimed'
          and (select true from waiting_runs q where q.within = c.seq limit 1) is null
        limit 1
      ) is null)
      and (box_kind <> 'conversation' or (
        select true from live_waits w
        where w.recipient_id = box_id and w.sender_id = l.sender_id and (w.thread is null or w.thread = l.thread)
          and (w.until_at is null or w.until_at > at)
        limit 1
      ) is null)
  ),
  chosen as materialized (
    select r.*, row_number() over (order by r.rank, r.step) as turn from ready r
    where not r.suspect or r.seq = (select s.seq from ready s where s.suspect order by s.step, s.rank limit 1) and (
      select true from deliveries c where c.recipient_id = box_id and c.state = 'claimed' and c.suspect limit 1
    ) is null
    order by r.rank, r.step limit most
  )
  select c.turn::integer, c.seq, c.suspect from chosen c
  where (not is_ordered
      or pg_try_advisory_xact_lock(hashtextextended(box_id || ' ' || box_kind || ' ' || c.sender_id || c.thread, 0)))
    and (not c.suspect or pg_try_advisory_xact_lock(hashtextextended(box_id::text, 1)));
end $$;

-- The mailboxes in which something is due, from one to the next over deliveries_ready. One that has a floor is looked into
-- behind that, and passed over by the walk.
create function find_waiting(at timestamptz) returns table (recipient_id uuid, kind text) language plpgsql as $$
#variable_conflict use_column
declare
  box record;
  next_box record;
  low_id uuid := '00000000-0000-0000-0000-000000000000';
  low_kind text := '';
begin
  for box in
    select f.recipient_id, f.kind, max(f.seq) as floor from floors f group by f.recipient_id, f.kind
    union all
    select 'ffffffff-ffff-ffff-ffff-ffffffffffff', '', null
    order by 1, 2
  loop
    loop
      select d.recipient_id, d.kind into next_box from deliveries d
      where d.state = 'queued' and d.run_at is null and (d.recipient_id, d.kind) > (low_id, low_kind)
        and (d.recipient_id, d.kind) < (box.recipient_id, box.kind)
      order by d.recipient_id, d.kind limit 1;
      exit when not found;
      low_id := next_box.recipient_id;
      low_kind := next_box.kind;
      -- One that has not expired; the limit keeps the planner from reading all of them.
      if (
        select true from deliveries d
        where d.recipient_id = low_id and d.kind = low_kind and d.state = 'queued' and d.run_at is null
          and (d.expires_at is null or d.expires_at > at)
        limit 1
      ) then
        recipient_id := low_id;
        kind := low_kind;
        return next;
      end if;
    end loop;
    if (
      select true from deliveries d
      where d.recipient_id = box.recipient_id and d.kind = box.kind and d.read_at is null and d.seq + 0 > box.floor
        and d.state || '' = 'queued' and (d.run_at is null) is true and (d.expires_at is null or d.expires_at > at)
      order by d.seq + 0 limit 1
    ) or (
      select true from deliveries d
      where d.recipient_id = box.recipient_id and d.kind = box.kind and d.seq + 0 > box.floor
        and d.read_at is not null and d.state in ('queued', 'claimed')
        and d.state || '' = 'queued' and (d.run_at is null) is true and (d.expires_at is null or d.expires_at > at)
      order by d.seq + 0 limit 1
    ) then
      recipient_id := box.recipient_id;
      kind := box.kind;
      return next;
    end if;
    low_id := box.recipient_id;
    low_kind := box.kind;
  end loop;
end $$;

-- Whoever makes due again what was not open (a dead letter, what was scheduled, what was read and given back) calls this behind
-- it, in the same transaction. One transaction at a time raises or lowers floors: a floor that was raised before, and past
-- these, is seen here, and none is raised from now on until the commit, which shows them.
create function lower_floors(seqs bigint[]) returns boolean language plpgsql as $$
declare
  locked text := pg_advisory_xact_lock(hashtextextended('floors', 4));
  low record;
begin
  for low in
    select d.recipient_id, d.kind, min(d.seq) - 1 as seq from unnest(seqs) as i (seq) join deliveries d on d.seq = i.seq
    group by d.recipient_id, d.kind
  loop
    delete from floors f where f.recipient_id = low.recipient_id and f.kind = low.kind and f.seq > low.seq;
    if found then
      insert into floors (recipient_id, kind, seq) values (low.recipient_id, low.kind, low.seq) on conflict do nothing;
    end if;
  end loop;
  return true;
end $$;

-- Raises the floors of the mailboxes of these deliveries. A mailbox gets its first one when the server keeps more than `most_dead`
-- dead deliveries, and a look into it passes more than `most_passed` entries in vain; all go when the server has removed the dead.
-- `bound` is a seq that had been drawn when the transactions `before` were under way: once they have ended, every message up to
-- it is committed or never will be, because whoever draws a seq holds a lock of the sequence from before that until its
-- transaction ends. Answers both for the next time, and whether there are floors.
create function raise_floors(
  seqs bigint[], most_dead bigint, most_passed integer, inout bound bigint, inout before text[], out is_held boolean
) language plpgsql as $$
declare
  newest bigint;
  running text[];
  box record;
  low bigint;
  reach bigint;
  passed bigint;
  seen boolean;
begin
  is_held := false;
  if pg_stat_get_dead_tuples('deliveries'::regclass) <= most_dead then
    bound := null;
    -- Alone as well: the rows go in another order than where one is lowered or raised.
    if (select true from floors limit 1) and pg_try_advisory_xact_lock(hashtextextended('floors', 4)) then
      delete from floors;
    end if;
    return;
  end if;
  newest := (select s.last_value from messages_seq_seq s);
  running := array(
    select l.virtualtransaction from pg_locks l
    where l.locktype = 'relation' and l.relation = 'messages_seq_seq'::regclass and l.mode = 'RowExclusiveLock' and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
  );
  if bound > newest then  -- the numbers begin anew
    bound := null;
  end if;
  if bound is not null and not before && running and pg_try_advisory_xact_lock(hashtextextended('floors', 4)) then
    for box in
      select distinct d.recipient_id, d.kind from deliveries d where d.seq = any(seqs)
    loop
      low := (
        select f.seq from floors f where f.recipient_id = box.recipient_id and f.kind = box.kind order by f.seq desc limit 1
      );
      if low is null then
        -- Twice: what nobody may see any more is passed once, and marked so that the next look does not.
        for n in 1 .. 2 loop
          passed := pg_stat_get_xact_tuples_returned('deliveries_ready'::regclass)
            + pg_stat_get_xact_tuples_returned('deliveries_claimed'::regclass);
          seen := (
            select true from deliveries d
            where d.recipient_id = box.recipient_id and d.kind = box.kind and d.state = 'queued' and d.run_at is null
            order by d.sender_id, d.thread limit 1
          );
          seen := (  -- all claims of the mailbox, as free_lanes looks for those of others: none is without an owner
            select true from deliveries d
            where d.recipient_id = box.recipient_id and d.kind = box.kind and d.state = 'claimed' and d.owner is null
            limit 1
          );
          passed := pg_stat_get_xact_tuples_returned('deliveries_ready'::regclass)
            + pg_stat_get_xact_tuples_returned('deliveries_claimed'::regclass) - passed;
        end loop;
        continue when passed <= most_passed;
        -- All that is open, once. Every floor after that is found behind this one.
        reach := least(
          (select min(d.seq + 0) from deliveries d
           where d.recipient_id = box.recipient_id and d.kind = box.kind and d.state = 'queued' and d.run_at is null),
          (select min(d.seq + 0) from deliveries d
           where d.recipient_id = box.recipient_id and d.kind = box.kind and d.state = 'claimed')
        ) - 1;
      else
        select coalesce(min(n.seq) filter (where n.is_open) - 1, case when count(*) = 5000 then max(n.seq) end) into reach
        from (
          select d.seq, d.state || '' = 'claimed' or d.state || '' = 'queued' and (d.run_at is null) is true as is_open
          from deliveries d
          where d.recipient_id = box.recipient_id and d.kind = box.kind and d.read_at is null and d.seq + 0 > low
          order by d.seq + 0 limit 5000
        ) n;
        reach := least(reach, (
          select d.seq - 1 from deliveries d
          where d.recipient_id = box.recipient_id and d.kind = box.kind and d.seq + 0 > low
            and d.read_at is not null and d.state in ('queued', 'claimed')
          order by d.seq + 0 limit 1
        ));
      end if;
      reach := least(reach, bound);
      if reach > coalesce(low, 0) then
        insert into floors (recipient_id, kind, seq) values (box.recipient_id, box.kind, reach) on conflict do nothing;
        delete from floors f where f.recipient_id = box.recipient_id and f.kind = box.kind and f.seq < reach;
      end if;
    end loop;
  end if;
  if bound is null or not before && running then
    bound := newest;
    before := running;
  end if;
  is_held := (select true from floors limit 1) is true;
end $$;
