-- Sessions, asks, waits and notices.

create table sessions (
  id uuid primary key,
  agent_a_id uuid not null references agents (id) on delete cascade,   -- the smaller id of the two
  agent_b_id uuid not null references agents (id) on delete cascade,
  thread text collate "C" not null default '',   -- '' is the main one
  session_type text not null check (session_type in ('sync', 'async')),
  created_at timestamptz not null,
  ended_at timestamptz,
  ended_by uuid,
  check (agent_a_id < agent_b_id),
  check (
    least(created_at, ended_at) >= '0001-01-01 00:00+00'
    and greatest(created_at, ended_at) < '10000-01-01 00:00+00'
  )
);

create unique index sessions_open on sessions (agent_a_id, agent_b_id, thread) where ended_at is null;
create index sessions_of_a on sessions (agent_a_id, id);
create index sessions_of_b on sessions (agent_b_id, id);
create index messages_of_session on messages (session_id, seq) where session_id is not null;

-- A message whose sender waits.
create table asks (
  seq bigint primary key references messages (seq) on delete cascade,
  session_id uuid not null references sessions (id) on delete cascade,
  asker_id uuid not null,
  responder_id uuid not null,
  state text collate "C" not null default 'open'
    check (state in ('open', 'replied', 'timed_out', 'ended', 'failed', 'cancelled')),
  within bigint,                            -- the message in whose run it was made
  taken_within bigint,                      -- where the own code of who was asked took it, by reading or as an answer: the
                                            -- message of the run it was in, 0 outside any; null if it did not
  keyed boolean not null,                   -- made under an idempotency key: a repeat may join it
  origin uuid,
  deadline_at timestamptz not null,
  answer_seq bigint,
  reason text,
  ended_at timestamptz,
  check (
    least(deadline_at, ended_at) >= '0001-01-01 00:00+00'
    and greatest(deadline_at, ended_at) < '10000-01-01 00:00+00'
  )
) with (fillfactor = 80);

create unique index asks_open on asks (asker_id, responder_id, session_id) where state = 'open';
create index asks_taken on asks (asker_id, responder_id, seq) where state = 'open' and taken_within = 0;
create index asks_deadline on asks (deadline_at) where state = 'open';
create index asks_within on asks (within) where state = 'open' and within is not null;
create index asks_of_process on asks (origin) where state = 'open';
create index asks_of_session on asks (session_id, seq);
create index asks_answered on asks (answer_seq) where answer_seq is not null;

-- An agent's own code waits for a message: handlers take nothing from the lane meanwhile.
create table waits (
  id uuid primary key,
  recipient_id uuid not null references agents (id) on delete cascade,
  sender_id uuid not null references agents (id) on delete cascade,
  thread text collate "C",                  -- null: of any thread
  process_id uuid not null,
  until_at timestamptz,                     -- null: as long as its process lives
  is_ended boolean not null default false,
  check (until_at >= '0001-01-01 00:00+00' and until_at < '10000-01-01 00:00+00')
);

create index waits_of_lane on waits (recipient_id, sender_id);
create index waits_of_process on waits (process_id);

-- What notification handlers are still to be told.
create table notices (
  seq bigint primary key references messages (seq) on delete cascade,
  recipient_id uuid not null,
  created_at timestamptz not null,
  check (created_at >= '0001-01-01 00:00+00' and created_at < '10000-01-01 00:00+00')
);

create index notices_of_recipient on notices (recipient_id, seq);
create index notices_due on notices (created_at);

-- Of an ask: the seconds its asker waits, so that its run may take as long.
alter table deliveries add column ask_timeout float8;

-- For an agent's own code, which reads by sender, and takes what no handler had: there the handled ones are many.
create index deliveries_unread_from on deliveries (recipient_id, sender_id, (seq + 0))
  where kind = 'conversation' and read_at is null;
create index deliveries_left on deliveries (recipient_id, sender_id, (seq + 0))
  where kind = 'conversation' and state = 'done' and token = 0 and read_at is null;

-- The same in one thread, and what is queued in any but the main one. They cost nothing without threads.
create index deliveries_unread_in on deliveries (recipient_id, thread, sender_id, (seq + 0))
  where thread <> '' and read_at is null;
create index deliveries_threads on deliveries (recipient_id, sender_id, (seq + 0))
  where thread <> '' and state = 'queued' and run_at is null;

alter table services add column slots integer not null default 1;

-- Acts of several statements, as functions of the server; see the end of the migration before.

-- Ends claims. Locked in the order of seq, as everywhere, so that two transactions never wait for each other. A repeat is told
-- by the token, which no claim has raised since, and by the entry of the log that bears it; to redrive is no end of a claim.
-- Only `done` leaves none: so a delivery that was given back, and was done in another way then, was not done by this claim.
create function settle(
  seqs bigint[], tokens integer[], hows text[], delays float8[], reasons text[], events text[], answering boolean[],
  at timestamptz
) returns table (place integer, kind text, origin text, final boolean, moves boolean) language plpgsql as $$
#variable_conflict use_column
begin
  return query
  with moment as materialized (
    select at as now
  ),
  input as materialized (
    select * from unnest(seqs, tokens, hows, delays, reasons, events, answering)
      with ordinality as i (seq, token, how, delay, reason, event, answers, position)
  ),
  locked as materialized (
    -- An agent that answers an ask has read it.
    select d.seq, d.kind, d.state, d.token, d.origin, i.how, i.delay, i.reason, i.event, i.position, m.now,
      i.how = 'done' and i.answers and d.ask_timeout is not null as reads,
      case d.log -> -1 ->> 'event' when 'redriven' then d.log -> -2 else d.log -> -1 end as entry
    from input i join deliveries d on d.seq = i.seq and d.token = i.token, moment m
    order by d.seq
    for update of d
  ),
  moved as (
    update deliveries d set
      state = case l.how when 'done' then 'done' when 'dead' then 'dead' else 'queued' end,
      attempt = greatest(d.attempt, 1) - (l.how = 'returned')::integer,
      suspect = false,
      run_at = case when l.how = 'retry' and l.delay > 0 then l.now + make_interval(secs => l.delay) end,
      queued_at = case when l.how in ('retry', 'returned') then l.now + make_interval(secs => l.delay) else d.queued_at end,
      claim_until = null,
      settled_at = case when l.how in ('done', 'dead') then l.now end,
      read_at = case when l.reads then coalesce(d.read_at, l.now) else d.read_at end,
      log = case when l.how = 'done' then d.log else logged(d, l.now, l.event, l.reason) end
    from locked l
    where d.seq = l.seq and l.state = 'claimed'
  )
  select l.position::integer, l.kind, l.origin::text, l.how in ('done', 'dead') as final, l.state = 'claimed' as moves
  from locked l
  where l.state = 'claimed'
    or case when l.entry -> 'token' = to_jsonb(l.token) then l.entry ->> 'event' = l.event
      else l.how = 'done' and l.state = 'done' end;
end $$;

-- Stores answers to these deliveries, and ends what they answer. Messages and deliveries in one statement. The deliveries that
-- they answer are locked, by `settle`. A settlement that did not move one now is a repeat: it stores nothing and is only
-- answered again.
create function answer(
  ids uuid[], seqs bigint[], contents text[], checksums bigint[], moved boolean[], owner_id uuid, at timestamptz
) returns table (ask_id text, origin text, waiter text) language plpgsql as $$
#variable_conflict use_column
begin
  return query
  with moment as materialized (
    select at as now
  ),
  input as materialized (
    select i.id, i.seq as to_seq, i.content, i.checksum, d.recipient_id as sender_id, d.sender_id as recipient_id,
      d.max_attempts, d.thread, q.session_id, k.seq as known_seq, i.moves, m.now, i.position
    from unnest(ids, seqs, contents, checksums, moved)
      with ordinality as i (id, seq, content, checksum, moves, position)
    join deliveries d on d.seq = i.seq
    join messages q on q.seq = i.seq
    left join messages k on k.id = i.id
    cross join moment m
    where d.kind = 'conversation'
  ),
  fresh as materialized (
    select i.*, nextval('messages_seq_seq') as seq from (
      select * from input where moves and known_seq is null order by position
    ) i
  ),
  replied as (
    update asks a set state = 'replied', answer_seq = f.seq, ended_at = f.now
    from fresh f where a.seq = f.to_seq and a.state = 'open'
    returning a.seq
  ),
  new_messages as (
    insert into messages (seq, id, kind, sender_id, recipient_id, session_id, content, checksum, created_at)
    select seq, id, 'conversation', sender_id, recipient_id, session_id, content, checksum, now from fresh order by position
  ),
  new_deliveries as (
    insert into deliveries (
      seq, recipient_id, kind, sender_id, thread, state, max_attempts, origin, queued_at, settled_at, read_at
    )
    select seq, recipient_id, 'conversation', sender_id, thread, 'done', max_attempts, owner_id, now, now,
      case when to_seq in (select r.seq from replied r) then now end
    from fresh order by position
  )
  select q.id::text as ask_id, a.origin::text, null as waiter
  from input i
  join asks a on a.seq = i.to_seq
  join messages q on q.seq = i.to_seq
  where i.to_seq in (select r.seq from replied r) or a.answer_seq = i.known_seq
  union all
  select null, null, w.process_id::text
  from input i
  join waits w on w.recipient_id = i.recipient_id and w.sender_id = i.sender_id and (w.thread is null or w.thread = i.thread)
  left join processes p on p.id = w.process_id
  where (i.to_seq in (select r.seq from replied r)) is false
    and not w.is_ended and (w.until_at is null or w.until_at > i.now) and p.ended_at is null;
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
    from input i where a.seq = i.seq and a.state = 'open'
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
    order by d.seq
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
  others text[];
begin
  -- Before the deliveries are settled and before any seq is drawn; see append_open_sessions.
  chosen := array(select p from generate_subscripts(seqs, 1) p where answer_ids[p] is not null and hows[p] = 'done');
  if cardinality(chosen) > 0 then
    perform s.id from sessions s
    where s.id in (
      select m.session_id from messages m where m.seq = any(array(select seqs[p] from unnest(chosen) p))
    )
    order by s.agent_a_id, s.agent_b_id, s.thread, s.id
    for no key update of s;
  end if;

  select array_agg(e.place), array_agg(distinct e.origin) filter (where e.final and e.origin is not null),
    array_agg(e.place order by e.place) filter (where e.kind = 'conversation'),
    array_agg(e.moves order by e.place) filter (where e.kind = 'conversation')
  into settled, told, talks, moved
  from settle(
    seqs, tokens, hows, delays, reasons, events,
    array(select a.id is not null from unnest(answer_ids) with ordinality as a (id, n) order by a.n), at
  ) e;

  if talks is not null then
    chosen := array(select n::integer from unnest(talks) with ordinality as t (p, n) where hows[p] = 'dead');
    if cardinality(chosen) > 0 then
      select array_agg(e.ask_id), array_agg('failed'::text), array_agg(e.origin) into ask_ids, ask_states, ask_origins
      from fail_asks(
        array(select seqs[talks[n]] from unnest(chosen) n), array(select reasons[talks[n]] from unnest(chosen) n),
        array(select moved[n] from unnest(chosen) n), at
      ) e;
    end if;
    chosen := array(
      select n::integer from unnest(talks) with ordinality as t (p, n) where hows[p] in ('retry', 'returned') and moved[n]
    );
    if cardinality(chosen) > 0 then
      select told || array_agg(e.origin) filter (where e.origin is not null) into told
      from end_queued(array(select seqs[talks[n]] from unnest(chosen) n), at) e;
    end if;
    chosen := array(
      select n::integer from unnest(talks) with ordinality as t (p, n) where hows[p] = 'done' and answer_ids[p] is not null
    );
    if cardinality(chosen) > 0 then
      select ask_ids || array_agg(e.ask_id) filter (where e.ask_id is not null),
        ask_states || array_agg('replied'::text) filter (where e.ask_id is not null),
        ask_origins || array_agg(e.origin) filter (where e.ask_id is not null),
        told || array_agg(e.waiter) filter (where e.waiter is not null)
      into ask_ids, ask_states, ask_origins, told
      from answer(
        array(select answer_ids[talks[n]] from unnest(chosen) n), array(select seqs[talks[n]] from unnest(chosen) n),
        array(select contents[talks[n]] from unnest(chosen) n), array(select checksums[talks[n]] from unnest(chosen) n),
        array(select moved[n] from unnest(chosen) n), owner_id, at
      ) e;
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
