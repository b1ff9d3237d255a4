-- The index of words, and how far it reaches.

-- Which messages have a word. It is fed with words of our own, between blanks, so the tokenizer has nothing to decide;
-- the texts stay in messages.
create virtual table search_words using fts5 (words, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii');

-- Whatever removes a message: its agent's removal, or retention.
create trigger forget_words after delete on messages begin
  delete from search_words where rowid = old.seq;
end;

create table search_state (
  is_one integer primary key default 1 check (is_one = 1),
  indexed_to integer not null default 0,    -- every message up to this seq is in the index
  owner text,                               -- the process that moves it on
  until_due integer not null default 0      -- and may do so alone until then
) strict;

insert into search_state (is_one) values (1);
