-- The index of words, how far it reaches, and the counts of unread messages.

-- Which messages have a word. It is fed with words of our own, between blanks, so the tokenizer has nothing to decide;
-- the texts stay in messages.
create virtual table search_words using fts5 (words, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii');

-- Whatever removes a message: its agent's removal, or retention.
create trigger forget_words after delete on messages
  when old.seq <= (select indexed_to from search_state) -- the others have no words there yet
begin
  delete from search_words where rowid = old.seq;
end;

create table search_state (
  is_one integer primary key default 1 check (is_one = 1),
  indexed_to integer not null default 0,    -- every message up to this seq is in the index
  owner text,                               -- the process that moves it on
  until_due integer not null default 0      -- and may do so alone until then
) strict;

insert into search_state (is_one) values (1);


-- How many of an agent's messages are unread, so that nobody has to count them.

-- Of the deliveries that are filed; `file` adds those that it files. What is unfiled is few, and is counted.
create table unread_counts (
  agent_id text not null,
  kind text not null,
  unread integer not null,
  primary key (agent_id, kind)
) without rowid, strict;

create trigger unread_counts_delete after delete on deliveries when old.read_at is null and old.seq <= (select filed from message_numbers) begin
  update unread_counts set unread = unread - 1 where agent_id = old.recipient_id and kind = old.kind;
end;

create trigger unread_counts_update after update of read_at on deliveries
when (old.read_at is null) <> (new.read_at is null) and new.seq <= (select filed from message_numbers) begin
  insert into unread_counts (agent_id, kind, unread) values (new.recipient_id, new.kind, iif(new.read_at is null, 1, -1))
  on conflict do update set unread = unread + excluded.unread;
end;

create trigger unread_counts_forget after delete on agents begin
  delete from unread_counts where agent_id = old.id;
end;
