-- name: append_insert_streams
insert into streams (ask_id, reader) select i.id, $2::text::uuid from unnest($1::text[]::uuid[]) as i (id)

-- name: parts_lock
-- PostgreSQL alone: one at a time writes to a stream, and what was read before the lock may be old.
select from streams where ask_id = any ($1::text[]::uuid[]) order by ask_id for update

-- name: parts_find_streams
-- Those alone that are open: the run has the message, and the ask waits for its answer.
select i.position::integer, s.reader::text, s.seq, s.token, s.written,
  (select count(*) from parts p where p.ask_id = s.ask_id) as parts,
  (select coalesce(sum(octet_length(p.content)), 0) from parts p where p.ask_id = s.ask_id) as size
from unnest($1::text[]::uuid[], $2::bigint[], $3::integer[]) with ordinality as i (ask_id, seq, token, position)
join streams s on s.ask_id = i.ask_id
join deliveries d on d.seq = i.seq and d.state = 'claimed' and d.token = i.token
join messages m on m.seq = d.seq and m.id = s.ask_id
join asks a on a.seq = d.seq and a.state || '' = 'open'

-- name: parts_replace
delete from parts where ask_id = any ($1::text[]::uuid[])

-- name: parts_insert
insert into parts (ask_id, number, content, checksum)
select * from unnest($1::text[]::uuid[], $2::integer[], $3::text[], $4::bigint[])

-- name: parts_written
update streams s set seq = i.seq, token = i.token, written = i.written
from unnest($1::text[]::uuid[], $2::bigint[], $3::integer[], $4::integer[]) as i (ask_id, seq, token, written)
where s.ask_id = i.ask_id

-- name: parts_read
-- The parts of a run that has lost the message are not read any more.
select i.position::integer, d.seq, d.token, p.number, p.content, p.checksum
from unnest($1::text[]::uuid[], $2::bigint[], $3::integer[], $4::integer[])
  with ordinality as i (ask_id, seq, token, number, position)
join streams s on s.ask_id = i.ask_id
join messages m on m.id = s.ask_id
join deliveries d on d.seq = m.seq
cross join lateral (
  select case when i.seq = d.seq and i.token = d.token then i.number else 0 end as after
) c
left join parts p on p.ask_id = s.ask_id and s.seq = d.seq and s.token = d.token
  and p.number > c.after and p.number <= c.after + $5::integer
order by i.position, p.number

-- name: parts_acknowledge
delete from parts p using streams s
where s.ask_id = $1::text::uuid and s.seq = $2::bigint and s.token = $3::integer
  and p.ask_id = s.ask_id and p.number <= $4::integer

-- name: parts_find_workers
select distinct d.owner::text from messages m join deliveries d on d.seq = m.seq
where m.id = any ($1::text[]::uuid[]) and d.state = 'claimed'

-- name: parts_end
delete from streams where ask_id = any ($1::text[]::uuid[])

-- name: parts_end_of_processes
delete from streams where reader = any ($1::text[]::uuid[])
