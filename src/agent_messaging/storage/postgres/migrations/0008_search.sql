-- The index of words, and how far it reaches.

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
  execute format('delete from %I.search_words w where w.seq = any(array(select g.seq from gone g order by g.seq))', tg_table_schema);
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
