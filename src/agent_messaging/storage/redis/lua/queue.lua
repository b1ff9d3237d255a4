-- Queues. A message is a hash, which is the truth; a stream of its agent and priority holds its id, in the order of
-- claims. Its entry stays in the stream, and pending in the group of its agents, until the message has ended.

local GROUP = 'agents'
local OPEN = {queued = true, claimed = true}
local MESSAGE = {
  'sender', 'type', 'priority', 'content', 'metadata', 'checksum', 'max_attempts', 'created', 'expires', 'state',
  'token', 'attempt', 'owner', 'claimed', 'settled', 'reason',
}
local CLAIMED_NUMBERS = {'priority', 'checksum', 'max_attempts', 'created', 'expires', 'token', 'attempt'}
local CLAIMED_TEXTS = {'content', 'metadata', 'sender', 'type'}
local CLAIMING = {
  'state', 'token', 'attempt', 'max_attempts', 'priority', 'type', 'expires', 'entry', 'owner', 'number', 'suspect',
}
local STATE = {'state', 'token', 'attempt', 'max_attempts', 'priority', 'entry', 'number', 'ended_as', 'owner', 'reason',
  'expires', 'suspect'}

local function member_of(agent, id)
  return agent .. '\n' .. id
end

local function split(member)
  return string.match(member, '^(.-)\n(.*)$')
end

local function message_key(agent, id)
  return key('m', member_of(agent, id))
end

local function load_message(agent, id, fields)
  return load_whole(message_key(agent, id), fields, {'token', 'attempt', 'max_attempts', 'priority', 'number'})
end

local function stream_of(agent, priority)
  return key('q', whole(priority), agent)
end

local function recount(agent, priority, from, to)
  for _, name in ipairs({key('counts'), key('counts', agent)}) do
    if from then tally(name, from, -1) end
    if to then tally(name, to, 1) end
    local by = ((to and OPEN[to]) and 1 or 0) - ((from and OPEN[from]) and 1 or 0)
    if by ~= 0 then tally(name, 'p' .. whole(priority), by) end
  end
end

local function parts_of(entry)
  local milliseconds, number = string.match(entry, '^(%d+)-(%d+)$')
  return tonumber(milliseconds), tonumber(number)
end

-- Whether the group has read past the entry. One that was claimed by its type alone may be still to come.
local function is_behind(stream, entry)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local group = not groups.err and groups[1]
  if not group then return false end
  local last
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then last = group[i + 1] end
  end
  local milliseconds, number = parts_of(entry)
  local last_milliseconds, last_number = parts_of(last)
  return milliseconds < last_milliseconds or (milliseconds == last_milliseconds and number <= last_number)
end

-- Makes a message claimable again, in its old place: what is still to be read from the stream comes from there.
local function offer(agent, id, message)
  local priority = tonumber(message.priority)
  if not message.entry or is_behind(stream_of(agent, priority), message.entry) then
    call('ZADD', key('again', agent), whole(priority * STEP + tonumber(message.number)), id)
  end
  local number, expires = message.number, message.expires
  call('ZADD', key('waiting'), number, member_of(agent, id))
  if expires then call('ZADD', key('expiring'), expires, member_of(agent, id)) end
end

local function put_message(message)
  local agent, id = message.agent, message.id
  local name = message_key(agent, id)
  if call('EXISTS', name) == 1 then return 0 end
  if not heard_by[agent] then
    heard_by[agent] = true
    for _, process in ipairs(call('SMEMBERS', key('listeners', agent))) do listeners[process] = true end
  end
  local entry = call('XADD', stream_of(agent, message.priority), '*', 'id', id)
  local number = next_seq()
  local expires = given(message.expires_in) and whole(NOW + message.expires_in)
  store(name, {
    sender = message.sender, type = message.type, priority = message.priority, content = message.content,
    metadata = given(message.metadata), checksum = message.checksum, max_attempts = message.max_attempts,
    created = TODAY, expires = expires or nil, state = 'queued', token = 0, attempt = 0, entry = entry, number = number,
  })
  local member = member_of(agent, id)
  call('ZADD', key('list'), number, member)
  call('ZADD', key('list', agent), number, id)
  call('ZADD', key('waiting'), number, member)
  if expires then call('ZADD', key('expiring'), expires, member) end
  recount(agent, message.priority, nil, 'queued')
  return 1
end

function VERBS.put()
  local stored = {}
  for i, message in ipairs(ARGS.messages) do stored[i] = put_message(message) end
  return {stored, names_of(listeners)}
end

local function listen(process, agents)
  for _, agent in ipairs(call('SMEMBERS', key('listens', process))) do call('SREM', key('listeners', agent), process) end
  call('DEL', key('listens', process))
  for _, agent in ipairs(agents) do
    call('SADD', key('listens', process), agent)
    call('SADD', key('listeners', agent), process)
  end
end

function VERBS.listen()
  if call('EXISTS', key('gone', ARGS.process)) == 0 then listen(ARGS.process, ARGS.agents) end
  return 1
end

-- The first write of what settles gives memory back, so that it also works where memory is used up.
local function let_go(agent, id, message)
  local member = member_of(agent, id)
  if message.state == 'claimed' then
    call('ZREM', key('claimed'), member)
    call('SREM', key('owner', message.owner), member)
  else
    call('ZREM', key('waiting'), member)
    call('ZREM', key('expiring'), member)
    call('ZREM', key('again', agent), id)
    call('ZREM', key('later'), member)
  end
end

local function end_message(agent, id, message, state, ended_as, reason)
  let_go(agent, id, message)
  if message.entry then
    local stream = stream_of(agent, message.priority)
    redis.pcall('XACK', stream, GROUP, message.entry)
    call('XDEL', stream, message.entry)
  end
  call('ZADD', key('ended', state), TODAY, member_of(agent, id))
  call('HDEL', message_key(agent, id), 'entry', 'call', 'suspect')
  store(message_key(agent, id), {state = state, ended_as = ended_as, settled = TODAY, reason = reason})
  recount(agent, message.priority, message.state, state)
  if state == 'done' and reason then
    tally(key('counts'), 'failed', 1)
    tally(key('counts', agent), 'failed', 1)
  end
end

-- `suspect`: a process died that had it, and no claim of it was settled since.
local function return_message(agent, id, message, ended_as, attempt, delay, reason, suspect)
  let_go(agent, id, message)
  local name = message_key(agent, id)
  if message.suspect and not suspect then call('HDEL', name, 'suspect') end
  store(name, {state = 'queued', ended_as = ended_as, attempt = attempt, reason = reason, suspect = suspect})
  recount(agent, message.priority, 'claimed', 'queued')
  if delay > 0 then
    call('ZADD', key('later'), whole(NOW + delay), member_of(agent, id))
    if message.expires then call('ZADD', key('expiring'), message.expires, member_of(agent, id)) end
  else
    offer(agent, id, message)
  end
end

local function lose_message(agent, id, message, word, reason, suspect)
  local attempt, most = tonumber(message.attempt), tonumber(message.max_attempts)
  if LOST_END[attempt >= most and 'last' or 'more'] == 'failed' then
    end_message(agent, id, message, 'dead', word, reason)
  else
    return_message(agent, id, message, word, attempt, 0, reason, suspect)
  end
end

-- What strangers wrote into a stream is set aside, with its first fields, and the rest goes on. Lua passes some 8,000
-- arguments at once.
local function set_aside(stream, entry, fields)
  redis.pcall('XACK', stream, GROUP, entry)
  call('XDEL', stream, entry)
  call('XADD', key('quarantine'), '*', 'stream', stream, 'entry', entry, unpack(fields, 1, math.min(#fields, 1000)))
end

local function claim_message(agent, id, message, owner, lease, is_again)
  local member = member_of(agent, id)
  call('ZREM', key('waiting'), member)
  if message.expires then call('ZREM', key('expiring'), member) end
  if is_again or message.token ~= '0' then
    call('ZREM', key('again', agent), id)
    call('HDEL', message_key(agent, id), 'ended_as')
  end
  store(message_key(agent, id), {
    state = 'claimed', token = tonumber(message.token) + 1, attempt = tonumber(message.attempt) + 1, owner = owner,
    claimed = TODAY, call = ARGS.call,
  })
  call('ZADD', key('claimed'), whole(NOW + lease), member)
  call('SADD', key('owner', owner), member)
  recount(agent, message.priority, 'queued', 'claimed')
end

local function is_wanted(types, type)
  return not types or types[type]
end

-- The next entries of a stream that no agent has seen; the group is made anew where it is missing.
local function read_next(stream, owner, count)
  local read = redis.pcall('XREADGROUP', 'GROUP', GROUP, owner, 'COUNT', count, 'STREAMS', stream, '>')
  if type(read) == 'table' and read.err then
    if call('EXISTS', stream) == 0 then return {} end
    redis.pcall('XGROUP', 'CREATE', stream, GROUP, '0')
    read = call('XREADGROUP', 'GROUP', GROUP, owner, 'COUNT', count, 'STREAMS', stream, '>')
  end
  if read and read[1][2][1] then call('SADD', key('consumes', owner), stream) end
  -- A reply is [[stream, [[entry, fields]]]], and from newer servers in RESP 3 a map; scripts get the first.
  return read and read[1][2] or {}
end

local function id_of(fields)
  if type(fields) ~= 'table' or fields[1] ~= 'id' or #fields ~= 2 then return nil end
  return fields[2]
end

-- What this very call claimed when its answer was lost.
local function claimed_before(agent, owner)
  local found = {}
  for _, member in ipairs(call('SMEMBERS', key('owner', owner))) do
    local of, id = split(member)
    if of == agent and call('HGET', message_key(of, id), 'call') == ARGS.call then
      found[#found + 1] = packed_row(message_key(of, id), CLAIMED_NUMBERS, CLAIMED_TEXTS, id)
    end
  end
  return found
end

local function has_suspect(owner)
  for _, member in ipairs(call('SMEMBERS', key('owner', owner))) do
    local agent, id = split(member)
    if call('HGET', message_key(agent, id), 'suspect') then return true end
  end
  return false
end

function VERBS.claim()
  local agent, owner, lease = ARGS.agent, ARGS.owner, ARGS.lease
  if call('EXISTS', key('gone', owner)) == 1 then return {0, {}} end
  if ARGS.repeated then
    local found = claimed_before(agent, owner)
    if #found > 0 then return {0, found} end
  end
  local types, claimed, size, aside, suspected = set_of(ARGS.types), {}, 0, 0, nil

  local function has_room()
    return #claimed < ARGS.limit and size < ARGS.most_bytes
  end

  local function try(id, message, is_again)
    if message.state ~= 'queued' then return end
    if message.token ~= '0' and call('ZSCORE', key('later'), member_of(agent, id)) then return end
    if message.suspect and is_wanted(types, message.type) then  -- of suspects a process has one at a time
      if suspected == nil then suspected = has_suspect(owner) end
      if suspected then
        if not is_again then offer(agent, id, message) end
        return
      end
    end
    local is_expired = message.expires and tonumber(message.expires) <= NOW  -- `advance_queue` ends it
    if not is_expired and is_wanted(types, message.type) then
      claim_message(agent, id, message, owner, lease, is_again)
      suspected = suspected or (message.suspect and true or nil)
      local found = packed_row(message_key(agent, id), CLAIMED_NUMBERS, CLAIMED_TEXTS, id)
      size = size + #found[1] + #found[2]
      claimed[#claimed + 1] = found
    end
  end

  for priority = 0, 4 do
    if not has_room() then break end
    local stream = stream_of(agent, priority)
    local low, high = whole(priority * STEP), '(' .. whole((priority + 1) * STEP)
    local skipped = 0
    while has_room() do
      local again = call('ZRANGEBYSCORE', key('again', agent), low, high, 'LIMIT', skipped, CHUNK)
      if #again == 0 then break end
      local before = call('ZCARD', key('again', agent))
      for _, id in ipairs(again) do
        if not has_room() then break end
        local message = load_message(agent, id, CLAIMING)
        if not message.state then call('ZREM', key('again', agent), id) end
        try(id, message, true)
      end
      skipped = skipped + #again - (before - call('ZCARD', key('again', agent)))
    end
    while has_room() and not types do
      local entries = read_next(stream, owner, math.min(ARGS.limit - #claimed, CHUNK))
      if #entries == 0 then break end
      for _, entry in ipairs(entries) do
        local id = id_of(entry[2])
        local message = id and load_message(agent, id, CLAIMING) or {}
        if not id or message.entry ~= entry[1] and (message.entry or not message.state) then
          set_aside(stream, entry[1], entry[2] or {})
          aside = aside + 1
        elseif message.entry and has_room() then
          try(id, message)
        elseif message.state == 'queued' then
          offer(agent, id, message)  -- it was read, and is not taken: its contents are too large for this call
        end
      end
    end
    local from = '-'
    while has_room() and types do
      -- What is not wanted stays where it is, so the group's place in the stream must not move.
      local entries = call('XRANGE', stream, from, '+', 'COUNT', CHUNK)
      if #entries == 0 then break end
      for _, entry in ipairs(entries) do
        from = '(' .. entry[1]
        if not has_room() then break end
        local id = id_of(entry[2])
        local message = id and load_message(agent, id, CLAIMING) or {}
        if message.entry == entry[1] then try(id, message) end
      end
    end
  end
  return {aside, claimed}
end

function VERBS.settle()
  local answers = {}
  for i, one in ipairs(ARGS.settlements) do
    local message = load_message(one.agent, one.id, STATE)
    if not message.token or tonumber(message.token) ~= one.token then
      answers[i] = 0
    elseif message.state ~= 'claimed' then
      answers[i] = message.ended_as == one.how and 1 or 0
    else
      local attempt = tonumber(message.attempt)
      local finish = end_of(one.how, attempt, tonumber(message.max_attempts))
      if finish == 'again' then
        local kept = attempts_after(one.how, attempt)
        return_message(one.agent, one.id, message, one.how, kept, one.delay, given(one.reason))
      else
        local state = finish == 'done' and 'done' or 'dead'
        end_message(one.agent, one.id, message, state, one.how, given(one.reason))
      end
      answers[i] = 1
    end
  end
  return {answers}
end

function VERBS.renew()
  local answers = {}
  for i, one in ipairs(ARGS.claims) do
    local message = load(message_key(one.agent, one.id), {'state', 'token'})
    local holds = message.state == 'claimed' and tonumber(message.token) == one.token
    if holds then call('ZADD', key('claimed'), 'XX', whole(NOW + ARGS.lease), member_of(one.agent, one.id)) end
    answers[i] = holds and 1 or 0
  end
  return answers
end

-- Returns what these processes have claimed; `counted` says that they died, and did not stop. Where one had suspects, they
-- alone are to blame.
local function release_messages(owners, counted)
  local moved = 0
  for _, owner in ipairs(owners) do
    local convicted = has_suspect(owner)
    for _, member in ipairs(call('SMEMBERS', key('owner', owner))) do
      local agent, id = split(member)
      local message = load_message(agent, id, STATE)
      if message.state == 'claimed' and message.owner == owner then
        if counted and (message.suspect or not convicted) then
          lose_message(agent, id, message, 'lost', WHY.lost, '1')
        elseif counted then  -- another one is to blame
          local attempt = attempts_after('returned', tonumber(message.attempt))
          return_message(agent, id, message, 'lost', attempt, 0, WHY.lost)
        else
          local attempt = attempts_after('returned', tonumber(message.attempt))
          return_message(agent, id, message, 'returned', attempt, 0, WHY.stopped)
        end
        moved = moved + 1
      end
    end
    call('DEL', key('owner', owner))
    for _, stream in ipairs(call('SMEMBERS', key('consumes', owner))) do
      redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, owner)  -- what it held is in the hashes
    end
    call('DEL', key('consumes', owner))
    listen(owner, {})
    call('SET', key('gone', owner), counted and 'died' or 'stopped', 'EX', 604800)
  end
  return moved
end

function VERBS.release()
  return release_messages(ARGS.owners, true)
end

-- A waiting message whose entry a stranger removed from the stream, or read with the group, is offered without it. Each
-- call looks at the next ones, so that messages nobody receives hide none behind them.
local function heal(limit)
  local from = tonumber(call('GET', key('healed')) or '')
  local begin_at = from and '(' .. whole(from) or '-inf'
  local members = call('ZRANGEBYSCORE', key('waiting'), begin_at, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  if #members == 2 * limit then
    call('SET', key('healed'), members[#members])
  elseif from then
    call('DEL', key('healed'))
  end
  for i = 1, #members, 2 do
    local member = members[i]
    local agent, id = split(member)
    local message = load_message(agent, id, CLAIMING)
    if message.state ~= 'queued' then
      call('ZREM', key('waiting'), member)
    elseif not call('ZSCORE', key('again', agent), id) then
      local stream = stream_of(agent, message.priority)
      local entry = message.entry
      if not entry or #call('XRANGE', stream, entry, entry) == 0 or is_behind(stream, entry) then
        message.entry = nil
        offer(agent, id, message)
      end
    end
  end
end

local function queue_due_in(more)
  return next_in(more, {key('claimed'), key('expiring'), key('later')})
end

function VERBS.advance_queue()
  local overdue, expiring, later = due(key('claimed'), CHUNK), due(key('expiring'), CHUNK), due(key('later'), CHUNK)
  local lost, ended = 0, 0
  for _, member in ipairs(overdue) do
    local agent, id = split(member)
    local message = load_message(agent, id, STATE)
    if message.state == 'claimed' then
      lose_message(agent, id, message, 'overdue', WHY.lease, message.suspect)
      lost = lost + 1
    else
      call('ZREM', key('claimed'), member)
    end
  end
  for _, member in ipairs(expiring) do
    local agent, id = split(member)
    local message = load_message(agent, id, STATE)
    if message.state == 'queued' then
      end_message(agent, id, message, 'expired', 'expired')
      ended = ended + 1
    else
      call('ZREM', key('expiring'), member)
    end
  end
  for _, member in ipairs(later) do
    local agent, id = split(member)
    local message = load_message(agent, id, STATE)
    call('ZREM', key('later'), member)
    if message.state == 'queued' then
      offer(agent, id, message)
    end
  end
  heal(100)
  local more = #overdue == CHUNK or #expiring == CHUNK or #later == CHUNK
  return {lost, ended, #later, queue_due_in(more)}
end

-- The next members of these sorted sets together, highest first, as {member, score as text, score}.
local function next_below(names, below, many)
  local found, floor = {}, nil
  for _, name in ipairs(names) do
    local members = call('ZREVRANGEBYSCORE', name, below, '-inf', 'WITHSCORES', 'LIMIT', 0, many)
    for i = 1, #members, 2 do found[#found + 1] = {members[i], members[i + 1], tonumber(members[i + 1])} end
    local last = #members == 2 * many and tonumber(members[#members])
    if last and (not floor or last > floor) then floor = last end
  end
  table.sort(found, function(one, other) return one[3] > other[3] end)
  while floor and found[#found][3] < floor do found[#found] = nil end  -- behind it another set may have more
  return found
end

-- A page of sorted sets together, highest first, of the members that are shown, which are most of them unless they are few. It
-- looks at some thousand and then says where it is to go on, because the server does nothing else meanwhile. Returns what it
-- found, the offset that is left, and that place.
local function page(names, are_few, is_shown)
  local found, offset, below, looked = {}, ARGS.offset, ARGS.below, 0
  while #found < ARGS.limit and looked < 10 * CHUNK do
    local many = are_few and CHUNK or math.min(offset + ARGS.limit - #found, CHUNK)
    local members = next_below(names, below, many)
    if #members == 0 then return found, offset, '' end
    for _, one in ipairs(members) do
      if #found == ARGS.limit then break end
      below, looked = '(' .. one[2], looked + 1
      if is_shown(one[1]) then
        if offset > 0 then offset = offset - 1 else found[#found + 1] = one[1] end
      end
    end
  end
  return found, offset, below
end

function VERBS.list_messages()
  local states, agent = set_of(ARGS.states), given(ARGS.agent)
  local function locate(member)
    if agent then return agent, member end
    return split(member)
  end
  local found, offset, below = page({agent and key('list', agent) or key('list')}, states, function(member)
    return not states or states[call('HGET', message_key(locate(member)), 'state')]
  end)
  for i, member in ipairs(found) do
    local of, id = locate(member)
    found[i] = row(message_key(of, id), MESSAGE, id, of)
  end
  return {found, offset, below}
end

function VERBS.redrive()
  local agent, ids = given(ARGS.agent), set_of(ARGS.ids)
  local moved = 0
  for _, member in ipairs(call('ZRANGE', key('ended', 'dead'), 0, -1)) do
    local of, id = split(member)
    if (not agent or agent == of) and (not ids or ids[id]) then
      local name = message_key(of, id)
      local message = load_message(of, id, STATE)
      call('ZREM', key('ended', 'dead'), member)
      if message.state == 'dead' then
        call('HDEL', name, 'expires', 'settled', 'ended_as', 'reason', 'suspect')
        store(name, {state = 'queued', attempt = 0})
        recount(of, message.priority, 'dead', 'queued')
        message.entry, message.expires = nil, nil
        offer(of, id, message)
        moved = moved + 1
      end
    end
  end
  return moved
end

-- When the oldest message that waits for this agent was put: the first of a stream that waits, or of those that returned.
local function oldest_of(agent)
  local oldest
  local function look(id)
    if not call('ZSCORE', key('waiting'), member_of(agent, id)) then return false end
    local created = tonumber(call('HGET', message_key(agent, id), 'created') or '')
    if created and (not oldest or created < oldest) then oldest = created end
    return created
  end
  for priority = 0, 4 do
    local from, found = '-', false
    while not found do
      local entries = call('XRANGE', stream_of(agent, priority), from, '+', 'COUNT', CHUNK)
      if #entries == 0 then break end
      for _, entry in ipairs(entries) do
        from = '(' .. entry[1]
        local id = id_of(entry[2])
        found = id and look(id)
        if found then break end
      end
    end
    local low, high = whole(priority * STEP), '(' .. whole((priority + 1) * STEP)
    for _, id in ipairs(call('ZRANGEBYSCORE', key('again', agent), low, high, 'LIMIT', 0, CHUNK)) do
      if look(id) then break end
    end
  end
  return oldest
end

function VERBS.queue_statistics()
  local agent = given(ARGS.agent)
  local counts = call('HGETALL', agent and key('counts', agent) or key('counts'))
  local lately, oldest = 0, nil
  for _, state in ipairs({'done', 'dead', 'expired'}) do
    local since = '(' .. whole(NOW - 60000000)
    if agent then
      for _, member in ipairs(call('ZRANGEBYSCORE', key('ended', state), since, '+inf')) do
        if split(member) == agent then lately = lately + 1 end
      end
    else
      lately = lately + call('ZCOUNT', key('ended', state), since, '+inf')
    end
  end
  if agent then oldest = oldest_of(agent) end
  for _, member in ipairs(agent and {} or call('ZRANGE', key('waiting'), 0, CHUNK - 1)) do
    oldest = oldest or tonumber(call('HGET', message_key(split(member)), 'created') or '')
  end
  return {counts, lately, oldest and string.format('%.6f', (NOW - oldest) / 1000000) or ''}
end

-- Nothing stays of an agent that has no message any more, so that agents may come and go under ever new names.
local function forget_agent(agent)
  for priority = 0, 4 do
    local stream = stream_of(agent, priority)
    if call('EXISTS', stream) == 1 and call('XLEN', stream) == 0 then call('DEL', stream) end
  end
  call('DEL', key('again', agent), key('counts', agent))
  tallies[key('counts', agent)] = nil
end

function VERBS.prune_queue()
  local pruned = 0
  for _, state in ipairs(ARGS.states) do
    local name = key('ended', state)
    local before = '(' .. whole(NOW - ARGS.older_than)
    for _, member in ipairs(call('ZRANGEBYSCORE', name, '-inf', before, 'LIMIT', 0, ARGS.limit - pruned)) do
      local agent, id = split(member)
      local message = load(message_key(agent, id), {'priority', 'reason'})
      call('ZREM', name, member)
      call('DEL', message_key(agent, id))
      call('ZREM', key('list'), member)
      call('ZREM', key('list', agent), id)
      recount(agent, message.priority or '2', state, nil)
      if state == 'done' and message.reason then
        tally(key('counts'), 'failed', -1)
        tally(key('counts', agent), 'failed', -1)
      end
      if call('EXISTS', key('list', agent)) == 0 then forget_agent(agent) end
      pruned = pruned + 1
    end
    if pruned >= ARGS.limit then break end
  end
  return pruned
end

function VERBS.measure_queue()
  local names = {}
  for i, state in ipairs(ARGS.states) do names[i] = key('ended', state) end
  return measure(names, function(member)
    local name = message_key(split(member))
    return call('HSTRLEN', name, 'content') + call('HSTRLEN', name, 'metadata')
  end)
end
