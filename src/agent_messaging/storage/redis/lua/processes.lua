-- Processes: who lives, until when, and what becomes of what the dead had. A process that lives listens at a channel of
-- its own, by which it is rung, and by which the others see that it is connected.

local function channel_of(process)
  return key('ring', process)
end

local AT_ONCE = 8  -- Neighbours that are asked for together.
local LATELY = 3000000  -- Microseconds within which a process looks that is able to.

function VERBS.appear()
  call('ZADD', key('lives'), whole(NOW + ARGS.lease), ARGS.process)
  call('ZADD', key('circle'), 0, ARGS.process)
  return 1
end

-- 1: it lives on; 2: it was ended by its own side; 0: it counts as dead, or the server lost it.
function VERBS.renew_life()
  if call('ZSCORE', key('lives'), ARGS.process) then
    call('ZADD', key('lives'), whole(NOW + ARGS.lease), ARGS.process)
    call('HSET', key('clock'), 'last', TODAY)
    return 1
  end
  return call('GET', key('gone', ARGS.process)) == 'stopped' and 2 or 0
end

-- Those whose lease is over, and of its neighbours those that do not listen; and 1 if this user may not ask who listens.
-- The processes stand in a circle, by their ids. Each looks at the next ones up to one that listens and looks itself, so all
-- together look at each about once, however many they are; and nobody is overlooked behind one whose loop is blocked.
function VERBS.look()
  local me, over, deaf = ARGS.process, due(key('lives'), CHUNK), {}
  if call('ZSCORE', key('lives'), me) then call('HSET', key('looked'), me, TODAY) end
  if redis.pcall('PUBSUB', 'NUMSUB').err then return {over, {}, 1} end
  for _, range in ipairs({{'(' .. me, '+'}, {'-', '(' .. me}}) do
    local from = range[1]
    while true do
      local next_ones, channels = call('ZRANGEBYLEX', key('circle'), from, range[2], 'LIMIT', 0, AT_ONCE), {}
      if #next_ones == 0 then break end
      for i, process in ipairs(next_ones) do channels[i] = channel_of(process) end
      local heard = call('PUBSUB', 'NUMSUB', unpack(channels))
      for i, process in ipairs(next_ones) do
        from = '(' .. process
        if heard[2 * i] == 0 then
          deaf[#deaf + 1] = process
        elseif NOW - (tonumber(call('HGET', key('looked'), process) or '') or 0) < LATELY then
          return {over, deaf, 0}
        end
      end
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
    call('ZREM', key('circle'), process)
    call('HDEL', key('looked'), process)
  end
  return release_messages(ended, ARGS.counted) + release_runs(ended, ARGS.counted)
end

-- Seconds until time changes something of tasks, schedules and queues. A schedule that stands still is to be put right.
function VERBS.find_dues()
  local stalled = call('ZREVRANGE', key('firing_since'), 0, 0, 'WITHSCORES')
  local is_stalled = stalled[2] and tonumber(stalled[2]) > NOW
  return {tasks_due_in(false), next_in(is_stalled, {key('firing')}), queue_due_in(false)}
end
