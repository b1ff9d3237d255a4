-- The end of the script: the guard, the verb, and what every answer carries: the epoch, the newest change, and the time.

-- Where nobody lives, nobody waits for anything: the server's clock counts again as it is.
function VERBS.open()
  if call('ZCOUNT', key('lives'), '(' .. TODAY, '+inf') == 0 then
    call('DEL', key('clock'))
    read_clock()
  end
  call('SET', PREFIX .. 'epoch', ARGS.epoch, 'NX')
  return 1
end

-- Makes up for a jump of the server's clock, if it is one; returns by how much it was.
function VERBS.set_clock()
  local by = whole(NOW - server_time)
  if NOW ~= server_time then
    call('HINCRBY', key('clock'), 'shift', by)
    server_time = NOW
  end
  return by
end

local function run(keys, arguments)
  begin(keys, arguments)
  local epoch = call('GET', keys[1])
  if VERB ~= 'open' and (epoch ~= EPOCH or seq < SEEN) then
    return {'lost', epoch or '', whole(SEEN - seq), '', whole(server_time)}
  end
  local answer = VERBS[VERB]()
  write_bookings()
  write_lists()
  write_tallies()
  return {'ok', call('GET', keys[1]), whole(seq), answer, whole(server_time)}
end
