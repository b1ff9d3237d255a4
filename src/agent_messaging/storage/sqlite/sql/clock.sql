-- name: find_offset
select json_array(offset_us) from store_clock where boot_id = :boot_id

-- name: record_offset
insert into store_clock (boot_id, offset_us) values (:boot_id, :offset_us)
on conflict (boot_id) do update set offset_us = excluded.offset_us

-- name: list_boots
select json_group_array(distinct json_array(boot_id, lock_name)) from processes where ended_at is null
