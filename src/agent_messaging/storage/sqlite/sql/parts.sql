-- name: append_insert_streams
insert into streams (ask_id, reader) select value, :reader from jsonb_each(:ids)

-- name: parts_find_streams
-- :runs are (ask id, seq, token). Those alone that are open: the run has the message, and the ask waits for its answer.
select json_group_array(json_array(wanted.key, s.reader, s.seq, s.token, s.written,
  (select count(*) from parts where ask_id = s.ask_id),
  (select coalesce(sum(octet_length(content)), 0) from parts where ask_id = s.ask_id)))
from jsonb_each(:runs) as wanted
cross join streams as s on s.ask_id = wanted.value ->> 0
cross join deliveries as d on d.seq = wanted.value ->> 1
cross join messages as m on m.seq = d.seq
cross join asks as a on a.seq = d.seq
where d.state = 'claimed' and d.token = wanted.value ->> 2 and m.id = s.ask_id and a.state = 'open'

-- name: parts_replace
delete from parts where ask_id in (select value from jsonb_each(:ids))

-- name: parts_insert
insert into parts (ask_id, number, content, checksum)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from jsonb_each(:rows)

-- name: parts_written
update streams set seq = moved.seq, token = moved.token, written = moved.written
from (
  select value ->> 0 as ask_id, value ->> 1 as seq, value ->> 2 as token, value ->> 3 as written from jsonb_each(:rows)
) as moved
where streams.ask_id = moved.ask_id

-- name: parts_read
-- :cursors are (ask id, seq, token, number). The parts of a run that has lost the message are not read any more.
select json_group_array(json_array(wanted.key, d.seq, d.token, json((
  select json_group_array(json_array(number, content, checksum) order by number) from parts
  where s.seq = d.seq and s.token = d.token and ask_id = s.ask_id
    and number > iif(wanted.value ->> 1 = d.seq and wanted.value ->> 2 = d.token, wanted.value ->> 3, 0)
    and number <= iif(wanted.value ->> 1 = d.seq and wanted.value ->> 2 = d.token, wanted.value ->> 3, 0) + :limit
))))
from jsonb_each(:cursors) as wanted
cross join streams as s on s.ask_id = wanted.value ->> 0
cross join messages as m on m.id = s.ask_id
cross join deliveries as d on d.seq = m.seq

-- name: parts_acknowledge
delete from parts where ask_id = :ask and number <= :number
  and exists (select 1 from streams where ask_id = :ask and seq = :seq and token = :token)

-- name: parts_find_workers
select json_group_array(distinct d.owner) from jsonb_each(:ids) as wanted
cross join messages as m on m.id = wanted.value
cross join deliveries as d on d.seq = m.seq
where d.state = 'claimed'

-- name: parts_end
delete from streams where ask_id in (select value from jsonb_each(:ids))

-- name: parts_end_of_processes
delete from streams where reader in (select value from jsonb_each(:processes))
