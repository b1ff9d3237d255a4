-- name: find_offset
select json_array(offset_us) from store_clock where boot_id = :boot_id

-- name: record_offset
insert into store_clock (boot_id, offset_us) values (:boot_id, :offset_us) on conflict (boot_id) do nothing
