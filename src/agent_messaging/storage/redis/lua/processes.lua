-- Processes: who lives, until when, and what becomes of what the dead had. A process that lives listens at a channel of
-- its own, by which it is rung, and by which the others see that it is connected.

local function channel_of(process)
  return key('ring', process)
end

function VERBS.appear()
  call('ZADD', key('lives'), whole(NOW + ARGS.lease), ARGS.process)
  return 1
end

-- 1: it lives on; 2: it was ended by its own side; 0: it counts as dead, or the server lost it.
function VERBS.renew_life()
  if call('ZSCORE', key('lives'), ARGS.process) then
    call('ZADD', key('lives'), whole(NOW + ARGS.lease), ARGS.process)
    return 1
  end
  return call('GET', key('gone', ARGS.process)) == 'stopped' and 2 or 0
end

-- Those whose lease is over, and those that live by it but do not listen; and 1 if this user may not ask who listens.
function VERBS.look()
  local over, deaf = due(key('lives'), CHUNK), {}
  local alive = call('ZRANGEBYSCORE', key('lives'), '(' .. TODAY, '+inf')
  for start = 1, #alive, CHUNK do
    local channels = {}
    for i = start, math.min(start + CHUNK - 1, #alive) do channels[#channels + 1] = channel_of(alive[i]) end
    local heard = redis.pcall('PUBSUB', 'NUMSUB', unpack(channels))
    if heard.err then return {over, {}, 1} end
    for i = 1, #channels do
      if heard[2 * i] == 0 then deaf[#deaf + 1] = alive[start + i - 1] end
    end
  end
  return {over, deaf, 0}
end

function VERBS.ring()
  for _, process in ipairs(ARGS.processes) do call('PUBLISH', channel_of(process), '') end
  return 1
end

-- Returns all that these processes had, which died, or stopped; of each of those that lived once.
function VERBS.bury()
  local ended = {}
  for _, process in ipairs(ARGS.processes) do
    if call('ZREM', key('lives'), process) == 1 then ended[#ended + 1] = process end
  end
  return release_messages(ended, ARGS.counted) + release_runs(ended, ARGS.counted)
end

-- Seconds until time changes something of tasks, schedules and queues.
function VERBS.find_dues()
  return {tasks_due_in(false), next_in(false, {key('firing')}), queue_due_in(false)}
end
