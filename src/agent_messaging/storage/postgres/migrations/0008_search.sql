-- The index of words, how far it reaches, and the counts of unread messages.

-- Which messages have a word.
create table search_words (
  seq bigint primary key,
  words tsvector not null                   -- without places: phrases are looked for in the texts
);

create index search_words_by_word on search_words using gin (words);

create table search_state (
  is_one boolean primary key default true check (is_one),
  indexed_to bigint not null default 0,     -- every message up to this seq is in the index, and none will follow
  owner uuid,                               -- the process that moves it on
  until instant                             -- and may do so alone until then
);

insert into search_state default values;

-- Whatever removes a message: its agent's removal, or retention. See remove_deliveries.
create function forget_words() returns trigger language plpgsql as $$
begin
  execute format(
    'delete from %I.search_words w where w.seq = any(array(select g.seq from gone g order by g.seq))', tg_table_schema
  );
  return null;
end $$;
create trigger forget_words after delete on messages referencing old table as gone
  for each statement execute function forget_words();

-- Their numbers may be given out again.
create function forget_all_words() returns trigger language plpgsql as $$
begin
  execute format('delete from %I.search_words', tg_table_schema);
  execute format('update %I.search_state set indexed_to = 0', tg_table_schema);
  return null;
end $$;
create trigger forget_all_words after truncate on messages
  for each statement execute function forget_all_words();


-- How many of an agent's messages are unread, so that nobody has to count them.

-- The rows of an agent and a kind are added up: they are of the messages up to search_state.indexed_to. Whoever moves the index
-- on adds those that follow; what is newer is counted. Who reads an older message adds a row, and waits for nobody.
create table unread_counts (
  agent_id uuid not null,
  kind text collate "C" not null,
  unread bigint not null,
  is_sum boolean not null default false     -- the others are added to this one when the index moves on
);

create unique index unread_counts_sums on unread_counts (agent_id, kind) where is_sum;
create index unread_counts_changes on unread_counts (agent_id, kind) where not is_sum;

-- A transaction that reads or removes a message holds its row. The one that moves the index on has held that row before, and
-- has committed: then it is seen here. Or it comes after: then it sees what was done to the row.
create function count_reading() returns trigger language plpgsql set search_path from current as $$
begin
  -- Nearly always it is newer: an answer reads its question.
  if (select s.indexed_to from search_state s) >= new.seq then
    insert into unread_counts (agent_id, kind, unread)
    values (new.recipient_id, new.kind, case when new.read_at is null then 1 else -1 end);
  end if;
  return null;
end $$;
create trigger count_reading after update of read_at on deliveries
  for each row when (
    (old.read_at is null) <> (new.read_at is null) and current_setting('agent_messaging.counting', true) is distinct from 'off'
  ) execute function count_reading();

-- Marks what is unread as read, and returns how many. It may be a million: they are counted by one row, and not by one each.
create function mark_read(recipient uuid, of_kind text, sender uuid, at timestamptz) returns bigint
language plpgsql set search_path from current as $$
declare
  seqs bigint[];
begin
  -- Locked first: whoever moves the index on has passed them by then, and is seen below, or waits until the end.
  seqs := array(
    select d.seq from deliveries d
    where d.recipient_id = recipient and d.kind = of_kind and d.read_at is null and (sender is null or d.sender_id = sender)
    order by d.seq + 0
    for update
  );
  perform set_config('agent_messaging.counting', 'off', true);
  update deliveries d set read_at = at where d.seq = any(seqs);
  perform set_config('agent_messaging.counting', '', true);
  insert into unread_counts (agent_id, kind, unread)
  select recipient, of_kind, -count(*) from unnest(seqs) u (seq) join search_state s on s.indexed_to >= u.seq
  having count(*) > 0;
  return cardinality(seqs);
end $$;

create function count_removal() returns trigger language plpgsql set search_path from current as $$
begin
  insert into unread_counts (agent_id, kind, unread)
  select g.recipient_id, g.kind, -count(*)
  from gone g join search_state s on g.seq <= s.indexed_to join agents a on a.id = g.recipient_id
  where g.read_at is null
  group by g.recipient_id, g.kind;
  return null;
end $$;
create trigger count_removal after delete on deliveries referencing old table as gone
  for each statement execute function count_removal();

create function forget_counts() returns trigger language plpgsql set search_path from current as $$
begin
  delete from unread_counts c where c.agent_id = old.id;
  return null;
end $$;
create trigger forget_counts after delete on agents for each row execute function forget_counts();

-- The numbers of messages may be given out again.
create function forget_all_counts() returns trigger language plpgsql set search_path from current as $$
begin
  delete from unread_counts;
  return null;
end $$;
create trigger forget_all_counts after truncate on messages for each statement execute function forget_all_counts();
