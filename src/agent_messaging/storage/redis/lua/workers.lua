-- Workers. Those that take tasks stand in sorted sets, one of all and one for each capability, in the order in which
-- tasks choose: by load, and at the same load by their member, which begins with when they became idle. So choosing
-- reads from the front of the shortest set that covers a need, however many workers there are.

local WORKER = {
  'role', 'capabilities', 'capacity', 'status', 'until', 'booked', 'reported', 'pulls', 'metadata', 'registered',
  'heartbeat', 'idle_since',
}

local function worker_key(id)
  return key('w', id)
end

local function find_worker(id)
  if booked_workers[id] then return booked_workers[id] end
  local worker = load(worker_key(id), {
    'capabilities', 'capacity', 'status', 'until', 'booked', 'reported', 'pulls', 'idle_since', 'placed',
  })
  for _, field in ipairs({'capacity', 'until', 'booked', 'reported', 'idle_since'}) do
    if not tonumber(worker[field]) then return nil end  -- it is not there, or a stranger wrote it
  end
  worker.id = id
  worker.needs = decode(worker.capabilities)
  return worker
end

local function load_of(worker)
  return math.max(tonumber(worker.booked), tonumber(worker.reported)) / tonumber(worker.capacity)
end

local function leave_order(worker)
  if worker.placed then
    call('ZREM', key('order'), worker.placed)
    for _, capability in ipairs(worker.needs) do call('ZREM', key('order', capability), worker.placed) end
    call('HDEL', worker_key(worker.id), 'placed')
    worker.placed = nil
  end
end

-- Puts the worker where it belongs among those that take tasks, after whatever changed.
local function place(worker)
  leave_order(worker)
  if not AVAILABLE[worker.status] or tonumber(worker['until']) <= NOW then return end
  local member = string.format('%016.0f', tonumber(worker.idle_since)) .. '\n' .. worker.id
  local score = string.format('%.17g', load_of(worker))
  call('ZADD', key('order'), score, member)
  for _, capability in ipairs(worker.needs) do call('ZADD', key('order', capability), score, member) end
  call('HSET', worker_key(worker.id), 'placed', member)
  worker.placed = member
end

local function write_bookings()
  for id, worker in pairs(booked_workers) do
    store(worker_key(id), {booked = worker.booked, idle_since = worker.idle_since})
    place(worker)
  end
  booked_workers = {}
end

local function covers(worker, needs)
  local has = {}
  for _, capability in ipairs(worker.needs) do has[capability] = true end
  for _, need in ipairs(needs) do
    if not has[need] then return false end
  end
  return true
end

-- Goes through the workers that are able, the best first, until `visit` says that it has enough.
local function each_able(needs, visit)
  write_bookings()
  local name, size = key('order'), call('ZCARD', key('order'))
  for _, need in ipairs(needs) do
    local number = call('ZCARD', key('order', need))
    if number < size then name, size = key('order', need), number end
  end
  local start = 0
  while true do
    local members = call('ZRANGE', name, start, start + CHUNK - 1)
    if #members == 0 then return end
    start = start + #members
    for _, member in ipairs(members) do
      local _, id = split(member)
      local worker = find_worker(id)
      if worker and AVAILABLE[worker.status] and tonumber(worker['until']) > NOW and covers(worker, needs) then
        if visit(worker) then return end
      end
    end
  end
end

local function choose(needs)
  local best
  each_able(needs, function(worker)
    if load_of(worker) < 1 then best = worker end
    return true  -- behind a full one there are only full ones
  end)
  return best
end

local function book(worker, by)
  worker.booked = math.max(tonumber(worker.booked) + by, 0)
  if by < 0 then worker.idle_since = TODAY end
  booked_workers[worker.id] = worker
end

-- Lets the process that calls serve this worker, which pulls.
local function serve(id)
  if given(ARGS.process) and call('EXISTS', key('gone', ARGS.process)) == 0 then
    call('SADD', key('serves', ARGS.process), id)
    call('SADD', key('served', id), ARGS.process)
    call('SADD', key('pullers'), ARGS.process)
  end
end

function VERBS.register()
  local one = ARGS.worker
  local known = find_worker(one.id)
  if known then leave_order(known) end
  local name = worker_key(one.id)
  call('HDEL', name, 'metadata')
  store(name, {
    role = one.role, capabilities = one.capabilities, capacity = one.capacity, status = 'active',
    ['until'] = NOW + one.ttl, booked = known and tonumber(known.booked) or 0, reported = 0, pulls = one.pulls,
    metadata = given(one.metadata), heartbeat = TODAY, idle_since = known and known.idle_since or TODAY,
  })
  call('HSETNX', name, 'registered', TODAY)
  next_seq()
  call('ZADD', key('workers'), 0, one.id)
  call('ZADD', key('alive'), whole(NOW + one.ttl), one.id)
  call('ZREM', key('dead'), one.id)
  if one.pulls == 1 then serve(one.id) end
  place(find_worker(one.id))
  return known and 0 or 1
end

function VERBS.heartbeat()
  local answers = {}
  for i, beat in ipairs(ARGS.beats) do
    local worker = find_worker(beat.id)
    answers[i] = worker and 1 or 0
    if worker then
      worker['until'] = NOW + beat.ttl
      worker.status = given(beat.status) or (worker.status == 'offline' and 'active' or worker.status)
      if given(beat.reported) then worker.reported = beat.reported end
      store(worker_key(beat.id), {
        ['until'] = worker['until'], status = worker.status, reported = worker.reported, heartbeat = TODAY,
      })
      call('ZADD', key('alive'), whole(worker['until']), beat.id)
      call('ZREM', key('dead'), beat.id)
      if worker.pulls == '1' then serve(beat.id) end
      place(worker)
    end
  end
  return answers
end

local return_tasks  -- of tasks.lua

local function stop_serving(process, id)
  call('SREM', key('serves', process), id)
  call('SREM', key('served', id), process)
  if call('EXISTS', key('serves', process)) == 0 then call('SREM', key('pullers'), process) end
end

local function forget_worker(worker)
  return_tasks(worker, false)
  leave_order(find_worker(worker.id) or worker)
  booked_workers[worker.id] = nil
  call('DEL', worker_key(worker.id))
  call('ZREM', key('workers'), worker.id)
  call('ZREM', key('alive'), worker.id)
  call('ZREM', key('dead'), worker.id)
  for _, process in ipairs(call('SMEMBERS', key('served', worker.id))) do stop_serving(process, worker.id) end
end

function VERBS.unregister()
  local worker = find_worker(ARGS.id)
  if not worker then return 0 end
  if given(ARGS.process) then
    stop_serving(ARGS.process, ARGS.id)
    if call('EXISTS', key('served', ARGS.id)) == 1 then return 1 end
  end
  forget_worker(worker)
  return 1
end

function VERBS.find_workers()
  local found = {}
  for _, id in ipairs(ARGS.ids) do
    if call('EXISTS', worker_key(id)) == 1 then found[#found + 1] = row(worker_key(id), WORKER, id) end
  end
  return {TODAY, found}
end

function VERBS.list_workers()
  local found = {}
  for _, id in ipairs(call('ZRANGE', key('workers'), ARGS.offset, ARGS.offset + ARGS.limit - 1)) do
    found[#found + 1] = row(worker_key(id), WORKER, id)
  end
  return {TODAY, found}
end

function VERBS.find_available()
  local found = {}
  each_able(ARGS.needs, function(worker)
    found[#found + 1] = row(worker_key(worker.id), WORKER, worker.id)
    return #found >= ARGS.limit
  end)
  return {TODAY, found}
end

function VERBS.remove_stale()
  local removed = {}
  for _, name in ipairs({key('dead'), key('alive')}) do
    for _, id in ipairs(due(name, ARGS.limit - #removed)) do
      forget_worker(find_worker(id) or {id = id, needs = {}})
      removed[#removed + 1] = id
    end
  end
  return removed
end

function VERBS.worker_statistics()
  local found, start = {}, 0
  while true do
    local ids = call('ZRANGE', key('workers'), start, start + CHUNK - 1)
    if #ids == 0 then break end
    start = start + #ids
    for _, id in ipairs(ids) do
      found[#found + 1] = call('HMGET', worker_key(id), 'role', 'status', 'until', 'booked', 'reported', 'capacity')
    end
  end
  return {TODAY, found}
end
