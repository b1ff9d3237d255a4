-- The end of the script: the guard, the verb, and what every answer carries: the epoch and the newest change.

function VERBS.open()
  call('SET', PREFIX .. 'epoch', ARGS.epoch, 'NX')
  return 1
end

local function run(keys, arguments)
  begin(keys, arguments)
  local epoch = call('GET', keys[1])
  if VERB ~= 'open' and (epoch ~= EPOCH or seq < SEEN) then
    return {'lost', epoch or '', whole(SEEN - seq)}
  end
  local answer = VERBS[VERB]()
  write_bookings()
  write_tallies()
  return {'ok', call('GET', keys[1]), whole(seq), answer}
end
