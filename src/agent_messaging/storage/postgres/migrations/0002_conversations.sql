-- Sessions, asks, waits and notices.

create table sessions (
  id uuid primary key,
  agent_a_id uuid not null references agents (id) on delete cascade,   -- the smaller id of the two
  agent_b_id uuid not null references agents (id) on delete cascade,
  thread text collate "C" not null default '',   -- '' is the main one
  session_type text not null check (session_type in ('sync', 'async')),
  created_at instant not null,
  ended_at instant,
  ended_by uuid,
  check (agent_a_id < agent_b_id)
);

create unique index sessions_open on sessions (agent_a_id, agent_b_id, thread) where ended_at is null;
create index sessions_of_a on sessions (agent_a_id, id);
create index sessions_of_b on sessions (agent_b_id, id);
create index messages_of_session on messages (session_id, (seq + 0)) where session_id is not null;

create domain ask_state as text collate "C"
  check (value in ('open', 'replied', 'timed_out', 'ended', 'failed', 'cancelled'));

-- A message whose sender waits.
create table asks (
  seq bigint primary key,
  session_id uuid not null,
  asker_id uuid not null,
  responder_id uuid not null,
  state ask_state not null default 'open',
  within bigint,                            -- the message in whose run it was made
  taken_within bigint,                      -- the message in whose run the own code of who was asked took it (read it, or got
                                            -- it as an answer); 0: outside any run; null: it did not take it
  keyed boolean not null,                   -- made under an idempotency key: a repeat may join it
  origin uuid,
  deadline_at instant not null,
  answer_seq bigint,
  reason text,
  ended_at instant
) with (fillfactor = 80);

-- Where an ask is found by its seq, its state is compared as `state || ''`: these indices, which are small when a plan is made,
-- are otherwise walked through all asks that are open to find it.
create unique index asks_open on asks (asker_id, responder_id, session_id) where state = 'open';
create index asks_taken on asks (asker_id, responder_id, (seq + 0)) where state = 'open' and taken_within = 0;
create index asks_deadline on asks (deadline_at) where state = 'open';
create index asks_within on asks (within) where state = 'open' and within is not null;
create index asks_of_session on asks (session_id) where state = 'ended';
create index asks_answered on asks (answer_seq) where answer_seq is not null;

-- An agent's own code waits for a message: handlers take nothing from the lane meanwhile.
create table waits (
  id uuid primary key,
  recipient_id uuid not null references agents (id) on delete cascade,
  sender_id uuid not null references agents (id) on delete cascade,
  thread text collate "C",                  -- null: of any thread
  process_id uuid not null,
  until_at instant,                         -- null: as long as its process lives
  is_ended boolean not null default false
);

create index waits_of_lane on waits (recipient_id, sender_id);
create index waits_of_process on waits (process_id);

-- What notification handlers are still to be told.
create table notices (
  seq bigint primary key,
  recipient_id uuid not null,
  created_at instant not null
);

create index notices_of_recipient on notices (recipient_id, seq);
create index notices_due on notices (created_at);

-- As remove_deliveries.
create function remove_asks_and_notices() returns trigger language plpgsql as $$
begin
  execute format('delete from %I.asks a where a.seq = any(array(select g.seq from gone g order by g.seq))', tg_table_schema);
  execute format('delete from %I.notices n where n.seq = any(array(select g.seq from gone g order by g.seq))', tg_table_schema);
  return null;
end $$;
create trigger remove_asks_and_notices after delete on messages referencing old table as gone
  for each statement execute function remove_asks_and_notices();

-- An ask goes with its session too. Whoever stores one holds the session, so no foreign key has to.
create function remove_asks_of_sessions() returns trigger language plpgsql as $$
begin
  execute format('select %I.require_read_committed()', tg_table_schema);
  execute format(
    'delete from %1$I.asks a where a.seq = any(array(
       select m.seq from gone g join %1$I.messages m on m.session_id = g.id order by m.seq + 0
     ))', tg_table_schema
  );
  return null;
end $$;
create trigger remove_asks_of_sessions after delete on sessions referencing old table as gone
  for each statement execute function remove_asks_of_sessions();

create function remove_all_asks_and_notices() returns trigger language plpgsql as $$
begin
  execute format('delete from %I.asks', tg_table_schema);
  execute format('delete from %I.notices', tg_table_schema);
  return null;
end $$;
create trigger remove_all_asks_and_notices after truncate on messages
  for each statement execute function remove_all_asks_and_notices();

-- Of an ask: the seconds its asker waits, so that its run may take as long.
alter table deliveries add column ask_timeout float8;

-- For an agent's own code, which reads by sender, and takes what no handler had: there the handled ones are many. Who looks for
-- these writes `is true` as well, so that the first index, which they are in too, does not fit.
create index deliveries_unread_from on deliveries (recipient_id, sender_id, (seq + 0))
  where kind = 'conversation' and read_at is null;
create index deliveries_left on deliveries (recipient_id, sender_id, (seq + 0))
  where kind = 'conversation' and state = 'done' and token = 0 and (read_at is null) is true;

-- The same in one thread, and what is queued in any but the main one. They cost nothing without threads.
create index deliveries_unread_in on deliveries (recipient_id, thread, sender_id, (seq + 0))
  where thread <> '' and read_at is null;
create index deliveries_threads on deliveries (recipient_id, sender_id, (seq + 0))
  where thread <> '' and state = 'queued' and run_at is null;

alter table services add column slots integer not null default 1;

-- Acts of several statements, as functions of the server; see the end of the migration before.

-- Stores the answers of the runs at these positions, and ends what they answer. Messages and deliveries in one statement. The
-- deliveries that they answer are locked, by `exchange`. A settlement that did not move one now is a repeat: it stores nothing
-- and is only answered again.
create function answer(
  positions integer[], moved boolean[], hows text[], ids uuid[], seqs bigint[], contents text[], checksums bigint[],
  owner_id uuid, at timestamptz
) returns table (ask_id text, origin text, waiter text) language plpgsql as $$
#variable_conflict use_column
declare
  ended integer;
begin
  return query
  with input as materialized (
    select ids[i.p] as id, d.seq as to_seq, i.p, d.recipient_id as sender_id, d.sender_id as recipient_id,
      d.max_attempts, d.thread, q.id as ask_id, q.session_id, k.seq as known_seq, i.moves, i.position
    from unnest(positions, moved) with ordinality as i (p, moves, position)
    join deliveries d on d.seq = seqs[i.p]
    join messages q on q.seq = seqs[i.p]
    left join messages k on k.id = ids[i.p]
    where hows[i.p] = 'done' and ids[i.p] is not null
  ),
  fresh as materialized (
    select i.*, nextval('messages_seq_seq') as seq from (
      select * from input where moves and known_seq is null order by position
    ) i
  ),
  replied as (
    update asks a set state = 'replied', answer_seq = f.seq, ended_at = at
    from fresh f where a.seq = f.to_seq and a.state || '' = 'open'
    returning a.seq
  ),
  new_messages as (
    insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, checksum, created_at)
    select seq, id, 'conversation', sender_id, recipient_id, session_id, contents[p], checksums[p], at
    from fresh order by position
  ),
  new_deliveries as (
    insert into deliveries (
      seq, recipient_id, kind, sender_id, thread, state, max_attempts, origin, queued_at, settled_at, read_at
    )
    select seq, recipient_id, 'conversation', sender_id, thread, 'done', max_attempts, owner_id, at, at,
      case when to_seq in (select r.seq from replied r) then at end
    from fresh order by position
  )
  select i.ask_id::text, a.origin::text, null
  from input i
  join asks a on a.seq = i.to_seq
  where i.to_seq in (select r.seq from replied r) or a.answer_seq = i.known_seq;

  -- Nearly always each has ended an ask, and then nobody waits for one of them.
  get diagnostics ended = row_count;
  if ended < cardinality(positions) then
    return query
    select null, null, w.process_id::text
    from unnest(positions) as i (p)
    join deliveries d on d.seq = seqs[i.p]
    join live_waits w on w.recipient_id = d.sender_id and w.sender_id = d.recipient_id
      and (w.thread is null or w.thread = d.thread) and (w.until_at is null or w.until_at > at)
    where hows[i.p] = 'done' and ids[i.p] is not null and not exists (
      select from asks a join messages k on k.seq = a.answer_seq where a.seq = d.seq and k.id = ids[i.p]
    );
  end if;
end $$;

-- Ends the open asks of deliveries that are dead; a repeat of the call that made them so is answered again.
create function fail_asks(seqs bigint[], reasons text[], moved boolean[], at timestamptz)
returns table (ask_id text, origin text) language plpgsql as $$
#variable_conflict use_column
begin
  return query
  with input as materialized (
    select * from unnest(seqs, reasons, moved) as i (seq, reason, moves)
  ),
  failed as (
    update asks a set state = 'failed', reason = i.reason, ended_at = at
    from input i where a.seq = i.seq and a.state || '' = 'open'
    returning a.seq
  )
  select m.id::text as ask_id, a.origin::text
  from input i join asks a on a.seq = i.seq join messages m on m.seq = i.seq
  where a.seq in (select f.seq from failed f) or (not i.moves and a.state = 'failed');
end $$;

-- Ends, of those named, the queued ones whose ask is not open: nobody waits for a run. A statement after the one that ended the
-- ask, or returned the delivery, so that it sees what both have become. By keys, as close_asks.
create function end_queued(seqs bigint[], at timestamptz) returns table (origin text) language plpgsql as $$
#variable_conflict use_column
begin
  return query
  with held as materialized (
    select d.seq from deliveries d
    where d.seq = any(seqs) and d.state || '' = 'queued'
    order by d.seq + 0
    for update of d
  )
  update deliveries d set
    state = case (select a.state from asks a where a.seq = d.seq) when 'replied' then 'done' else 'expired' end,
    settled_at = t.now
  from (select at as now) t
  where d.seq = any(array(select h.seq from held h))
    and (select a.state from asks a where a.seq = d.seq) <> 'open'
  returning d.origin::text;
end $$;

-- Ends claims, stores the answers of those runs that have one, and makes new claims. The first row says what became of the
-- ends: the positions of those that hold, the processes that are to be told, and the asks that have ended. The rows behind it
-- are as those of `claim`.
create function exchange(
  seqs bigint[], tokens integer[], hows text[], delays float8[], reasons text[], events text[],
  answer_ids uuid[], contents text[], checksums bigint[],
  recipient_ids uuid[], kinds text[], limits integer[], after_senders uuid[], origins uuid[], after_threads text[],
  ordered boolean[], run_limits float8[], most_candidates integer, margin float8, most_bytes bigint,
  owner_id uuid, at timestamptz
) returns table (
  settled integer[], told text[], ask_ids text[], ask_states text[], ask_origins text[],
  place integer, step integer, seq bigint, token integer, attempt integer, message_id text, kind text, sender_id text,
  recipient_id text, content text, metadata text, checksum bigint, max_attempts integer, created_at timestamptz, origin text,
  session_id text, topic text, ask_timeout float8, thread text, is_streamed boolean, meeting_id text, turn integer
) language plpgsql as $$
#variable_conflict use_column
declare
  talks integer[];
  moved boolean[];
  chosen integer[];
  read bigint[];
  counting text;
  ended integer;
  has_answers boolean := cardinality(array_remove(answer_ids, null)) > 0;
begin
  -- Before the deliveries are settled and before any seq is drawn; see append_open_sessions.
  if has_answers then
    perform s.id from sessions s
    where s.id in (
      select m.session_id
      from unnest(seqs, hows, answer_ids) as i (seq, how, answer_id) join messages m on m.seq = i.seq
      where i.how = 'done' and i.answer_id is not null
    )
    order by s.agent_a_id, s.agent_b_id, s.thread, s.id
    for no key update of s;
  end if;

  -- What answers read is counted below, all at once: see count_reading.
  if has_answers then
    counting := set_config('agent_messaging.counting', 'off', true);
  end if;

  -- Runs that are simply done, as those of all notes: what is the open claim ends at once. If that is not all of them, what
  -- follows looks what the others are, and takes what has ended here for a repeat, which is answered alike.
  if not has_answers and 'done' = all(hows) then
    with done as (
      update deliveries d set
        state = 'done', attempt = greatest(d.attempt, 1), suspect = false, run_at = null, claim_until = null, settled_at = at
      from (select i.seq, i.token from unnest(seqs, tokens) as i (seq, token) order by i.seq offset 0) i
      where d.seq = i.seq and d.token = i.token and d.state || '' = 'claimed'
      returning d.origin
    )
    select count(*), array_agg(distinct o.origin::text) filter (where o.origin is not null) into ended, told from done o;
  end if;

  if ended = cardinality(seqs) then
    settled := array(select generate_series(1, ended));
  else
    -- Locked in the order of seq, as everywhere, so that two transactions never wait for each other. A repeat is told by the
    -- token, which no claim has raised since, and by the entry of the log that bears it; to redrive is no end of a claim. Only
    -- `done` leaves none: so a delivery that was given back, and was done in another way then, was not done by this claim.
    with locked as materialized (
      -- An agent that answers an ask has read it.
      select d.seq, d.kind, d.state, d.token, d.origin, i.how, i.delay, i.reason, i.event, i.position,
        i.how = 'done' and i.answer_id is not null and d.ask_timeout is not null as reads, d.read_at is null as is_unread,
        case d.log -> -1 ->> 'event' when 'redriven' then d.log -> -2 else d.log -> -1 end as entry
      from unnest(seqs, tokens, hows, delays, reasons, events, answer_ids)
        with ordinality as i (seq, token, how, delay, reason, event, answer_id, position)
      join deliveries d on d.seq = i.seq and d.token = i.token
      order by d.seq + 0
      for update of d
    ),
    moved as (
      update deliveries d set
        state = case l.how when 'done' then 'done' when 'dead' then 'dead' else 'queued' end,
        attempt = greatest(d.attempt, 1) - (l.how = 'returned')::integer,
        suspect = false,
        run_at = case when l.how = 'retry' and l.delay > 0 then at + make_interval(secs => l.delay) end,
        queued_at = case when l.how in ('retry', 'returned') then at + make_interval(secs => l.delay) else d.queued_at end,
        claim_until = null,
        settled_at = case when l.how in ('done', 'dead') then at end,
        read_at = case when l.reads then coalesce(d.read_at, at) else d.read_at end,
        log = case when l.how = 'done' then d.log else logged(d, at, l.event, l.reason) end
      from locked l
      where d.seq = l.seq and l.state = 'claimed'
    )
    select array_agg(l.position::integer),
      array_agg(distinct l.origin::text) filter (where l.how in ('done', 'dead') and l.origin is not null),
      array_agg(l.position::integer order by l.position) filter (where l.kind = 'conversation'),
      array_agg(l.state = 'claimed' order by l.position) filter (where l.kind = 'conversation'),
      array_agg(l.seq) filter (where l.reads and l.is_unread and l.state = 'claimed')
    into settled, told, talks, moved, read
    from locked l
    where l.state = 'claimed'
      or case when l.entry -> 'token' = to_jsonb(l.token) then l.entry ->> 'event' = l.event
        else l.how = 'done' and l.state = 'done' end;
  end if;

  if has_answers then
    counting := set_config('agent_messaging.counting', '', true);
    if (select s.indexed_to from search_state s) >= any(read) then  -- nearly always they are newer
      insert into unread_counts (agent_id, kind, unread)
      select d.recipient_id, d.kind, -count(*) from deliveries d join search_state s on s.indexed_to >= d.seq
      where d.seq = any(read)
      group by d.recipient_id, d.kind;
    end if;
  end if;

  if talks is not null then
    if 'dead' = any(hows) then
      chosen := array(select n::integer from unnest(talks) with ordinality as t (p, n) where hows[p] = 'dead');
      select array_agg(e.ask_id), array_agg('failed'::text), array_agg(e.origin) into ask_ids, ask_states, ask_origins
      from fail_asks(
        array(select seqs[talks[n]] from unnest(chosen) n), array(select reasons[talks[n]] from unnest(chosen) n),
        array(select moved[n] from unnest(chosen) n), at
      ) e;
    end if;
    if hows && array['retry', 'returned'] then
      chosen := array(
        select n::integer from unnest(talks) with ordinality as t (p, n) where hows[p] in ('retry', 'returned') and moved[n]
      );
      select told || array_agg(e.origin) filter (where e.origin is not null) into told
      from end_queued(array(select seqs[talks[n]] from unnest(chosen) n), at) e;
    end if;
    if has_answers then
      select ask_ids || array_agg(e.ask_id) filter (where e.ask_id is not null),
        ask_states || array_agg('replied'::text) filter (where e.ask_id is not null),
        ask_origins || array_agg(e.origin) filter (where e.ask_id is not null),
        told || array_agg(e.waiter) filter (where e.waiter is not null)
      into ask_ids, ask_states, ask_origins, told
      from answer(talks, moved, hows, answer_ids, seqs, contents, checksums, owner_id, at) e;
    end if;
  end if;
  return next;

  if cardinality(recipient_ids) > 0 then
    return query
    select null::integer[], null::text[], null::text[], null::text[], null::text[], c.*
    from claim(
      recipient_ids, kinds, limits, after_senders, origins, after_threads, ordered, run_limits, most_candidates, margin,
      most_bytes, owner_id, at
    ) c;
  end if;
end $$;

-- Locks, in a statement of its own, so that the next one sees what their last holders committed. Inputs come sorted.
-- Agents: of each ask the asker exclusively, the responder shared. So two asks that could be neighbours in a circle (the
-- responder of one is the asker of the other) come one after the other, while many may ask one agent at the same time.
-- The agent '' is all: shared, or of a call that would lock too many exclusively and alone.
-- Sessions: opened where the pair has none in the thread, and locked whoever opened it: `do update … where false` locks the row
-- also where it was committed after this statement began, and writes no new version. Held until the commit, before any seq is
-- drawn: within a session the order of seq is the order of commits.
create function open_sessions(
  asker_ids text[], asking boolean[], ids uuid[], a_ids uuid[], b_ids uuid[], threads text[], types text[], at timestamptz
) returns uuid[] language plpgsql as $$
#variable_conflict use_column
declare
  opened uuid[];
begin
  with agents as materialized (
    select case when i.asks
      then pg_advisory_xact_lock(hashtextextended(i.agent_id, 2))
      else pg_advisory_xact_lock_shared(hashtextextended(i.agent_id, 2))
    end
    from unnest(asker_ids, asking) as i (agent_id, asks)
  ),
  fresh as (
    insert into sessions (id, agent_a_id, agent_b_id, thread, session_type, created_at)
    select i.id, i.agent_a_id, i.agent_b_id, i.thread, i.session_type, at
    from unnest(ids, a_ids, b_ids, threads, types)
      as i (id, agent_a_id, agent_b_id, thread, session_type), (select count(*) from agents) locked
    order by i.agent_a_id, i.agent_b_id, i.thread collate "C"
    on conflict (agent_a_id, agent_b_id, thread) where ended_at is null
      do update set session_type = excluded.session_type where false
    returning id
  )
  select array_agg(f.id) into opened from fresh f;
  return opened;
end $$;

-- All that a call with conversation messages stores. Messages and deliveries as in append_insert_messages; beyond it, an answer
-- ends its ask and is done from the start, an ask and a notice get their rows. The first arrays have one element per delivery,
-- those from `kinds` on one per group. An ask that a later message of the same call answers (`replied_bys` has that message's
-- position) is stored as replied, and done. Arrays of positions are indexed: a join would compare each with each.
create function store_talks(
  at timestamptz, ids uuid[], recipient_ids uuid[], group_numbers integer[], wanted boolean[],
  kinds text[], sender_ids uuid[], session_ids uuid[], contents text[], metadatas text[], checksums bigint[],
  max_attempts integer[], run_limits float8[], deliver_ats timestamptz[], expires_ins float8[], owner_id uuid,
  ask_timeouts float8[], are_answers boolean[], answered bigint[], taken_withins bigint[], replied_bys integer[],
  withins bigint[], are_keyed boolean[], notifies boolean[], threads text[], margin float8, topics text[]
) returns table (message_id text, seq bigint) language plpgsql as $$
#variable_conflict use_column
declare
  seqs bigint[];
  noted integer[];
  is_kept boolean;
begin
  for n in 1 .. cardinality(ids) loop
    seqs[n] := nextval('messages_seq_seq');
  end loop;
  if 'one_way' = any(kinds) then
    noted := array(select n from unnest(kinds) with ordinality as k (kind, n) where k.kind = 'one_way');
    is_kept := keep_agents(array(
      select sender_ids[n] from unnest(noted) u (n)
      union all
      select i.recipient_id from unnest(recipient_ids, group_numbers) as i (recipient_id, g) where i.g = any(noted)
    ));
  end if;

  -- Before the asks: the asker whose ask is answered in this call may ask anew in it.
  if cardinality(array_remove(answered, null)) > 0 then
    update asks a set state = 'replied', answer_seq = i.seq, ended_at = at
    from unnest(seqs, group_numbers) as i (seq, g) where a.seq = answered[i.g] and a.state || '' = 'open';
    -- Whoever answered it has read it; queued it needs no handler any more.
    update deliveries d set
      state = case d.state when 'queued' then 'done' else d.state end,
      settled_at = case d.state when 'queued' then at else d.settled_at end,
      read_at = coalesce(d.read_at, at)
    from unnest(group_numbers) as i (g) where d.seq = answered[i.g] and (d.state = 'queued' or d.read_at is null);
  end if;

  return query
  with input as materialized (
    select i.seq, i.id, i.recipient_id, i.wanted, i.g, i.position,
      kinds[i.g] as kind, sender_ids[i.g] as sender_id, threads[i.g] as thread,
      nullif(greatest(deliver_ats[i.g], at), at) as run_at, are_answers[i.g] or replied_bys[i.g] is not null as is_done
    from unnest(seqs, ids, recipient_ids, group_numbers, wanted)
      with ordinality as i (seq, id, recipient_id, g, wanted, position)
  ),
  free as materialized (
    -- Behind the locks: what free_lanes reads was committed before it began.
    -- Of each lane the first of the call.
    select w.firsts[f.place] as position from (
      select array_agg(l.recipient_id) as recipient_ids, array_agg(l.kind) as kinds, array_agg(l.sender_id) as sender_ids,
        array_agg(l.thread) as threads, array_agg(l.first) as firsts
      from (
        select recipient_id, kind, sender_id, thread, min(position) as first from input
        where not is_done and run_at is null
        group by recipient_id, kind, sender_id, thread
        having min(position) = min(position) filter (where wanted)
      ) l
    ) w, free_lanes(w.recipient_ids, w.kinds, w.sender_ids, w.threads, owner_id, at) f
    where w.kinds is not null
  ),
  decided as materialized (
    select i.*, i.position in (select f.position from free f) as taken from input i
  ),
  new_messages as (
    insert into messages (
      seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, topic, created_at
    )
    select seq, id, kind, sender_id, recipient_id, session_ids[g], contents[g], metadatas[g], checksums[g], topics[g], at
    from decided order by position
  ),
  new_deliveries as (
    insert into deliveries (
      seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, origin, owner, run_at, expires_at,
      claim_until, queued_at, claimed_at, settled_at, read_at, ask_timeout, thread
    )
    select seq, recipient_id, kind, sender_id,
      case when is_done then 'done' when taken then 'claimed' else 'queued' end, taken::integer, taken::integer,
      max_attempts[g], owner_id, case when taken then owner_id end, case when not is_done then run_at end,
      at + make_interval(secs => expires_ins[g]),
      case when taken then at + make_interval(secs => greatest(run_limits[g], ask_timeouts[g]) + margin) end,
      coalesce(run_at, at), case when taken then at end, case when is_done then at end, case when is_done then at end,
      ask_timeouts[g], thread
    from decided order by position
  ),
  new_asks as (
    insert into asks (
      seq, session_id, asker_id, responder_id, state, within, taken_within, keyed, origin, deadline_at, answer_seq, ended_at
    )
    select seq, session_ids[g], sender_id, recipient_id, case when replied_bys[g] is null then 'open' else 'replied' end,
      withins[g], taken_withins[g], are_keyed[g], owner_id, at + make_interval(secs => ask_timeouts[g]),
      seqs[replied_bys[g]], case when replied_bys[g] is not null then at end
    from input where ask_timeouts[g] is not null order by position
  )
  select id::text as message_id, seq from decided where taken;

  if true = any(notifies) then
    insert into notices (seq, recipient_id, created_at)
    select i.seq, i.recipient_id, greatest(deliver_ats[i.g], at)
    from unnest(seqs, recipient_ids, group_numbers) as i (seq, recipient_id, g)
    where notifies[i.g] and not are_answers[i.g];
  end if;
end $$;

-- Opens the sessions of conversation messages and stores them, if nothing else is to be thought of: the recipient does not wait
-- for an answer of the sender, and the recipient of an ask for none at all, nor does the sender wait for one of this recipient
-- in the thread, or in the asks that the run it asks in was made for. Otherwise it stores nothing, which a row with the number
-- 0 tells: then the rules decide (`admission`), and not this function. The first rows tell each message's session and the
-- processes that wait for it, by the number of its group; those behind them are as of `store_talks`.
create function store_plain_talks(
  asker_ids text[], asking boolean[], opening_ids uuid[], a_ids uuid[], b_ids uuid[], opening_threads text[], types text[],
  numbers integer[], from_ids uuid[], to_ids uuid[], talk_threads text[], within_ids uuid[], are_asks boolean[],
  at timestamptz, ids uuid[], recipient_ids uuid[], group_numbers integer[], wanted boolean[],
  kinds text[], sender_ids uuid[], session_ids uuid[], contents text[], metadatas text[], checksums bigint[],
  max_attempts integer[], run_limits float8[], deliver_ats timestamptz[], expires_ins float8[], owner_id uuid,
  ask_timeouts float8[], are_answers boolean[], answered bigint[], taken_withins bigint[], replied_bys integer[],
  withins bigint[], are_keyed boolean[], notifies boolean[], threads text[], margin float8, topics text[]
) returns table (number integer, session_id text, waiters text[], message_id text, seq bigint) language plpgsql as $$
#variable_conflict use_column
declare
  talk record;
  opened uuid[] := open_sessions(asker_ids, asking, opening_ids, a_ids, b_ids, opening_threads, types, at);
  may_wait boolean := (select true from waits w where w.recipient_id = any(to_ids) limit 1);  -- nearly always nobody does
begin
  for talk in
    select i.number, i.thread, s.id as session_id,
      (select m.seq from messages m where m.id = i.within_id) as within,
      case when may_wait then array(
        select distinct w.process_id::text from live_waits w
        where w.recipient_id = i.to_id and w.sender_id = i.from_id and (w.thread is null or w.thread = i.thread)
          and (w.until_at is null or w.until_at > at)
      ) else '{}' end as waiters,
      (
        select true from asks a
        where a.asker_id = i.to_id and a.state = 'open' and (i.is_ask or a.responder_id = i.from_id)
        limit 1
      ) is true
      or i.is_ask and (
        (
          select true from asks a
          where a.asker_id = i.from_id and a.responder_id = i.to_id and a.session_id = s.id and a.state = 'open'
          limit 1
        ) is true
        or i.within_id is not null and exists (
          with recursive chain as (
            select a.seq, a.within, a.asker_id, a.responder_id from messages q join asks a on a.seq = q.seq
            where q.id = i.within_id and a.state = 'open'
            union
            select a.seq, a.within, a.asker_id, a.responder_id
            from chain c join asks a on a.seq = c.within and a.state || '' = 'open'
          )
          select from chain c where c.asker_id = i.from_id and c.responder_id = i.to_id
        )
      ) as is_special
    from unnest(numbers, from_ids, to_ids, talk_threads, within_ids, are_asks)
      as i (number, from_id, to_id, thread, within_id, is_ask)
    left join lateral (
      select o.id from sessions o
      where o.agent_a_id = least(i.from_id, i.to_id) and o.agent_b_id = greatest(i.from_id, i.to_id)
        and o.thread = i.thread and o.ended_at is null
      limit 1
    ) s on true
  loop
    if talk.is_special or talk.session_id is null then
      delete from sessions s where s.id = any(opened);
      number := 0;
      return next;
      return;
    end if;
    session_ids[talk.number] := talk.session_id;
    withins[talk.number] := talk.within;
    notifies[talk.number] := notifies[talk.number] and cardinality(talk.waiters) = 0;
    number := talk.number;
    session_id := talk.session_id;
    waiters := talk.waiters;
    return next;
  end loop;

  return query
  select null::integer, null::text, null::text[], t.message_id, t.seq
  from store_talks(
    at, ids, recipient_ids, group_numbers, wanted,
    kinds, sender_ids, session_ids, contents, metadatas, checksums,
    max_attempts, run_limits, deliver_ats, expires_ins, owner_id,
    ask_timeouts, are_answers, answered, taken_withins, replied_bys,
    withins, are_keyed, notifies, threads, margin, topics
  ) t;
end $$;

-- For one message, which is what an ask alone is, the same by itself: a statement costs by its size, so those of single values
-- are far cheaper than those with arrays, joins and sorts.

-- Stores one conversation message as store_plain_talks does; its one row says all.
create function store_plain_talk(
  sender_id uuid, recipient_id uuid, thread text, opening_id uuid, session_type text, within_id uuid, at timestamptz,
  id uuid, wanted boolean, content text, metadata text, checksum bigint, max_attempts integer, run_limit float8,
  deliver_at timestamptz, expires_in float8, owner_id uuid, ask_timeout float8, notifies boolean, margin float8,
  out number integer, out session_id text, out waiters text[], out message_id text, out seq bigint
) language plpgsql as $$
#variable_conflict use_column
declare
  from_id uuid := sender_id;
  to_id uuid := recipient_id;
  a_id uuid := least(sender_id, recipient_id);
  b_id uuid := greatest(sender_id, recipient_id);
  of_thread text := thread;
  is_ask boolean := ask_timeout is not null;
  due_at timestamptz := nullif(greatest(deliver_at, at), at);
  locked text;
  session uuid;
  opened uuid[];
  within_seq bigint;
  is_special boolean;
  may_wait boolean;
  is_free boolean := false;
begin
  number := 0;
  if is_ask then  -- see open_sessions
    locked := pg_advisory_xact_lock_shared(hashtextextended('', 2));
    locked := case when from_id = a_id then pg_advisory_xact_lock(hashtextextended(a_id::text, 2))
      else pg_advisory_xact_lock_shared(hashtextextended(a_id::text, 2)) end;
    locked := case when from_id = b_id then pg_advisory_xact_lock(hashtextextended(b_id::text, 2))
      else pg_advisory_xact_lock_shared(hashtextextended(b_id::text, 2)) end;
  end if;
  select s.id into session from sessions s
  where s.agent_a_id = a_id and s.agent_b_id = b_id and s.thread = of_thread and s.ended_at is null
  for no key update;
  if session is null then
    opened := open_sessions('{}', '{}', array[opening_id], array[a_id], array[b_id], array[of_thread], array[session_type], at);
    select s.id into session from sessions s
    where s.agent_a_id = a_id and s.agent_b_id = b_id and s.thread = of_thread and s.ended_at is null;
    if session is null then
      return;
    end if;
  end if;
  if wanted and due_at is null then  -- see free_lanes
    is_free := pg_try_advisory_xact_lock_shared(hashtextextended(owner_id::text, 5))
      and pg_try_advisory_xact_lock(hashtextextended(to_id || ' conversation ' || from_id || of_thread, 0));
  end if;

  -- A statement behind all the locks.
  select
    (
      select true from asks a
      where a.asker_id = to_id and a.state = 'open' and (is_ask or a.responder_id = from_id)
      limit 1
    ) is true
    or is_ask and (
      select true from asks a
      where a.asker_id = from_id and a.responder_id = to_id and a.session_id = session and a.state = 'open'
      limit 1
    ) is true,
    (select true from waits w where w.recipient_id = to_id and w.sender_id = from_id limit 1) is true,
    is_free and (
      select true from deliveries d
      where d.recipient_id = to_id and d.kind = 'conversation' and d.sender_id = from_id and d.thread = of_thread
        and d.seq + 0 > coalesce(floor, 0) and d.state = 'queued' and d.run_at is null
        and (d.expires_at is null or d.expires_at > at)
      limit 1
    ) is null and (
      select true from deliveries d
      where d.recipient_id = to_id and d.kind = 'conversation' and d.sender_id = from_id and d.thread = of_thread
        and d.seq + 0 > coalesce(floor, 0) and d.state = 'claimed' and d.owner <> owner_id
        and (select true from waiting_runs q where q.within = d.seq limit 1) is null
      limit 1
    ) is null and not exists (select from processes p where p.id = owner_id and p.ended_at is not null)
  into is_special, may_wait, is_free
  from (
    select (
      select f.seq from floors f where f.recipient_id = to_id and f.kind = 'conversation' order by f.seq desc limit 1
    ) as floor
  ) f;
  if within_id is not null then
    within_seq := (select m.seq from messages m where m.id = within_id);
    is_special := is_special or is_ask and exists (
      with recursive chain as (
        select a.seq, a.within, a.asker_id, a.responder_id from asks a where a.seq = within_seq and a.state || '' = 'open'
        union
        select a.seq, a.within, a.asker_id, a.responder_id from chain c join asks a on a.seq = c.within and a.state || '' = 'open'
      )
      select from chain c where c.asker_id = from_id and c.responder_id = to_id
    );
  end if;
  if is_special then
    if opened is not null then
      delete from sessions s where s.id = any(opened);
    end if;
    return;
  end if;
  waiters := '{}';
  if may_wait then
    waiters := array(
      select distinct w.process_id::text from live_waits w
      where w.recipient_id = to_id and w.sender_id = from_id and (w.thread is null or w.thread = of_thread)
        and (w.until_at is null or w.until_at > at)
    );
    is_free := is_free and cardinality(waiters) = 0;
  end if;

  number := 1;
  session_id := session;
  seq := nextval('messages_seq_seq');
  insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, metadata, checksum, created_at)
  values (seq, id, 'conversation', sender_id, recipient_id, session, content, metadata, checksum, at);
  insert into deliveries (
    seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, origin, owner, run_at, expires_at,
    claim_until, queued_at, claimed_at, ask_timeout, thread
  )
  values (
    seq, recipient_id, 'conversation', sender_id, case when is_free then 'claimed' else 'queued' end, is_free::integer,
    is_free::integer, max_attempts, owner_id, case when is_free then owner_id end, due_at, at + make_interval(secs => expires_in),
    case when is_free then at + make_interval(secs => greatest(run_limit, ask_timeout) + margin) end,
    coalesce(due_at, at), case when is_free then at end, ask_timeout, thread
  );
  if is_ask then
    insert into asks (seq, session_id, asker_id, responder_id, within, keyed, origin, deadline_at)
    values (seq, session, sender_id, recipient_id, within_seq, false, owner_id, at + make_interval(secs => ask_timeout));
  end if;
  if notifies and cardinality(waiters) = 0 then
    insert into notices (seq, recipient_id, created_at) values (seq, recipient_id, greatest(deliver_at, at));
  end if;
  if is_free then
    message_id := id;
  end if;
end $$;

-- Ends one claim as done, as exchange does, with the answer of its run if that has one. `is_done` is not true if it is not a
-- claim that is open, or its answer is there: then nothing was changed, and exchange says what it is.
create function finish(
  claim_seq bigint, claim_token integer, answer_id uuid, content text, checksum bigint, owner_id uuid, at timestamptz,
  out is_done boolean, out told text[], out ask_id text, out ask_origin text
) language plpgsql as $$
declare
  asked record;
  held record;
  new_seq bigint;
  is_answer boolean;
  ended_at timestamptz;
begin
  if answer_id is not null then
    select m.id, m.session_id, (select true from messages k where k.id = answer_id) as is_known into asked
    from messages m where m.seq = claim_seq;
    if asked.is_known then
      return;
    end if;
    perform from sessions s where s.id = asked.session_id for no key update;
  end if;
  select d.recipient_id, d.kind, d.sender_id, d.thread, d.state, d.max_attempts, d.origin, d.ask_timeout into held
  from deliveries d where d.seq = claim_seq and d.token = claim_token
  for update;
  is_done := held.state = 'claimed';
  if is_done is not true then
    return;
  end if;
  is_answer := answer_id is not null and held.kind = 'conversation';
  update deliveries d set
    state = 'done', attempt = greatest(d.attempt, 1), suspect = false, run_at = null, claim_until = null, settled_at = at,
    read_at = case when answer_id is not null and d.ask_timeout is not null then coalesce(d.read_at, at) else d.read_at end
  where d.seq = claim_seq;
  told := array_remove(array[held.origin::text], null);
  if not is_answer then
    return;
  end if;

  new_seq := nextval('messages_seq_seq');
  update asks a set state = 'replied', answer_seq = new_seq, ended_at = at
  where a.seq = claim_seq and a.state || '' = 'open'
  returning a.origin::text, at into ask_origin, ended_at;
  insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, checksum, created_at)
  values (
    new_seq, answer_id, 'conversation', held.recipient_id, held.sender_id, asked.session_id, finish.content, finish.checksum, at
  );
  insert into deliveries (
    seq, recipient_id, kind, sender_id, thread, state, max_attempts, origin, queued_at, settled_at, read_at
  )
  values (
    new_seq, held.sender_id, 'conversation', held.recipient_id, held.thread, 'done', held.max_attempts, owner_id, at, at, ended_at
  );
  if ended_at is not null then
    ask_id := asked.id;
  else
    told := told || array(
      select w.process_id::text from live_waits w
      where w.recipient_id = held.sender_id and w.sender_id = held.recipient_id
        and (w.thread is null or w.thread = held.thread) and (w.until_at is null or w.until_at > at)
    );
  end if;
end $$;
