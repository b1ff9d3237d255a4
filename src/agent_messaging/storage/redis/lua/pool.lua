-- The pool: tasks that wait for workers to take them. A worker goes through the groups (types and needs) that it can
-- do, and takes the first of their heads, so a long backlog of one group costs nothing.

-- The groups of which this worker may take. Those of suspects are groups of their own, of which a process runs one task at a
-- time.
local function groups_for(worker, types, but)
  write_lists()
  local groups = {}
  for set, prefix in pairs({pools = 'pool', suspect_pools = 'suspects'}) do
    for _, group in ipairs(call('SMEMBERS', key(set))) do
      local text, type = split(group)
      local needs, is_json = decode(text)
      if is_json and is_wanted(types, type) and not (but and but[type]) and covers(worker, needs) then
        groups[#groups + 1] = {
          name = key(prefix, group), set = set, of = group, is_suspect = set == 'suspect_pools',
          heads = {}, at = 0, looked = 0, stays = 0,
        }
      end
    end
  end
  return groups
end

-- Looks for the next task of the group. It is read in pages, from which nothing is taken out before the end of the verb.
local function find_head(group, page)
  if group.at >= #group.heads then
    group.heads, group.at = call('ZRANGE', group.name, group.looked, group.looked + page - 1, 'WITHSCORES'), 0
    group.looked = group.looked + #group.heads / 2
  end
  group.id, group.score = group.heads[group.at + 1], tonumber(group.heads[group.at + 2])
  group.at = group.at + 2
  if not group.id and group.stays == 0 then  -- the last one was taken
    call('SREM', key(group.set), group.of)
    known_groups[group.of] = nil
  end
end

-- The most urgent task that these groups have, then the oldest.
local function next_of(groups, page, has_suspect)
  local first
  for _, group in ipairs(groups) do
    local is_open = not group.is_done and not (group.is_suspect and has_suspect and has_suspect())
    if is_open and group.id == nil then
      find_head(group, page)
      group.is_done = not group.id
    end
    if is_open and group.id and (not first or group.score < first.score) then first = group end
  end
  if not first then return nil end
  local id = first.id
  first.id = nil
  return id, first
end

local function is_late(deadline)
  return deadline and (tonumber(deadline) or 0) <= NOW  -- `advance_tasks` ends it
end

local function room_of(worker)
  return tonumber(worker.capacity) - tonumber(worker.booked)
end

local TAKEN_NUMBERS = {
  'priority', 'checksum', 'token', 'attempt', 'max_attempts', 'created', 'deadline', 'run_limit', 'asked', 'suspect',
}
local TAKEN_TEXTS = {'worker', 'type', 'description', 'content', 'supervisor', 'origin', 'trace'}

local TAKING = {
  'state', 'token', 'attempt', 'max_attempts', 'worker', 'supervisor', 'priority', 'number', 'origin', 'run_limit',
  'needs', 'type', 'is_assigned', 'deadline', 'suspect', 'checksum', 'created', 'description', 'content', 'trace',
  'asked', 'call',
}

-- The task as its taker gets it; a client reads few long values faster than many, so the numbers are one.
local function taken_row(id, task)
  local row, numbers = {}, {}
  for i, field in ipairs(TAKEN_TEXTS) do row[i] = task[field] or '' end
  for i, field in ipairs(TAKEN_NUMBERS) do numbers[i] = task[field] or '' end
  row[#row + 1] = table.concat(numbers, '\n')
  row[#row + 1] = id
  return row
end

-- `group` is where it waits; nil where it is assigned to the worker. `held` gets the ids of those that the worker has more.
-- Returns nil where it is gone, or has come to another state, and false where its deadline has passed.
local function take_task(id, worker, request, group, held)
  local task = load_whole(task_key(id), TAKING, {'token', 'attempt', 'max_attempts', 'priority', 'number'})
  local was, is_new = task.state, task.token == '0'
  if not task.needs or not task.type or was ~= (group and 'queued' or 'assigned') then return nil end
  if group and is_late(task.deadline) then return false end
  if group then
    enlist(group.name, id)
    if task.is_assigned then enlist(key('waiting_tasks', task.needs), id) end
    held[#held + 1] = id
    book(worker, 1)
  else
    call('ZREM', key('given', worker.id), id)
  end
  local limit = tonumber(task.run_limit) or request.run_limit
  task.worker, task.token, task.asked = worker.id, whole(tonumber(task.token) + 1), whole(request.run_limit)
  task.attempt = whole(tonumber(task.attempt) + (was == 'queued' and 1 or 0))
  store(task_key(id), {
    state = 'running', worker = task.worker, token = task.token, attempt = task.attempt, owner = ARGS.owner,
    assigned = TODAY, fraction = not is_new and '0' or nil, call = ARGS.call, asked = task.asked,
  })
  if not is_new then call('HDEL', task_key(id), 'ended_as', 'note') end
  enlist(key('overdue'), id, whole(NOW + limit + ARGS.margin))
  enlist(key('runs', ARGS.owner), id, task.number)
  move_task(id, task, was, 'running')
  return taken_row(id, task)
end

-- What this very call took when its answer was lost.
local function taken_before()
  local taken = {}
  for _, id in ipairs(call('ZRANGE', key('runs', ARGS.owner), 0, -1)) do
    local task = load(task_key(id), TAKING)
    if task.call == ARGS.call then taken[#taken + 1] = taken_row(id, task) end
  end
  return taken
end

-- Whether this process runs a suspect, which is looked for once a suspect is found that it could take.
local runs_one

local function has_suspect()
  if runs_one == nil then runs_one = runs_suspect(ARGS.owner) end
  return runs_one
end

local function take(request, taken)
  local worker = find_worker(request.worker)
  if not worker then return end
  local types, but, left = set_of(request.types), set_of(request.but), request.limit
  for _, id in ipairs(call('ZRANGE', key('given', worker.id), 0, -1)) do
    local task = load(task_key(id), {'type', 'suspect'})
    local is_held_up = task.suspect and has_suspect()
    if left > 0 and not is_held_up and is_wanted(types, task.type) and not but[task.type] then
      local found = take_task(id, worker, request)
      if found then
        taken[#taken + 1] = found
        left, runs_one = left - 1, task.suspect and true or runs_one
      else
        call('ZREM', key('given', worker.id), id)
      end
    end
  end
  if room_of(worker) <= 0 then runs_one = runs_suspect(ARGS.owner) end
  if left <= 0 or room_of(worker) <= 0 then return end
  local groups, held, page = groups_for(worker, types, but), {}, math.min(left, room_of(worker))
  while left > 0 and room_of(worker) > 0 do
    local id, group = next_of(groups, page, has_suspect)
    if not id then break end
    local found = take_task(id, worker, request, group, held)
    if found then
      taken[#taken + 1] = found
      left, runs_one = left - 1, group.is_suspect or runs_one
    elseif found == nil then
      enlist(group.name, id)
    else
      group.stays = group.stays + 1
    end
  end
  if #held > 0 then call('SADD', key('held', worker.id), unpack(held)) end
end

function VERBS.submit()
  local answers = {}
  if #ARGS.tasks > 0 then reserve_seqs(#ARGS.tasks) end
  for i, one in ipairs(ARGS.tasks) do
    answers[i] = call('EXISTS', task_key(one.id)) == 0 and 1 or 0
    if answers[i] == 1 then
      local task = store_task(one)
      if (one.delay or 0) > 0 then
        call('ZADD', key('later_tasks'), whole(NOW + one.delay), one.id)
        name_pullers()
      else
        wait_for_worker(one.id, task)
      end
    end
  end
  return news(answers)
end

function VERBS.exchange()
  local answers, taken = settle_tasks(ARGS.settlements), ARGS.repeated and taken_before() or {}
  if #taken == 0 and call('EXISTS', key('gone', ARGS.owner)) == 0 then
    -- It also gives the room back of runs that are gone. Who settles has other things to do, unless a worker is full.
    runs_one = nil
    if #ARGS.settlements == 0 then has_suspect() end
    for _, request in ipairs(ARGS.requests) do take(request, taken) end
  end
  return {TODAY, answers, names_of(origins), taken}
end

function VERBS.list_claims()
  local found = {}
  for i, id in ipairs(call('ZRANGE', key('runs', ARGS.owner), 0, -1)) do
    found[i] = {id, call('HGET', task_key(id), 'token')}
  end
  return found
end

function VERBS.find_lost()
  local answers = {}
  for i, claim in ipairs(ARGS.claims) do
    local task = load(task_key(claim.id), {'state', 'token'})
    answers[i] = HELD[task.state] and tonumber(task.token) == claim.token and 0 or 1
  end
  return answers
end

-- Each for itself: a worker that will not take what it could hides it from nobody.
function VERBS.find_waiting()
  local answers = {}
  for i, id in ipairs(ARGS.ids) do
    local worker = find_worker(id)
    local has = worker and call('EXISTS', key('given', id)) == 1
    if worker and not has and room_of(worker) > 0 then
      local groups, group = groups_for(worker), nil
      repeat
        has, group = next_of(groups, CHUNK)
        local passed = has and is_late(call('HGET', task_key(has), 'deadline'))
        if passed then group.stays = group.stays + 1 end
      until not passed
    end
    answers[i] = has and 1 or 0
  end
  return answers
end

-- Schedules: a hash for each, a sorted set of their names, and one of the instants at which they fire.

local SCHEDULE = {'rule', 'zone', 'task', 'next', 'fired', 'fired_at', 'created'}

local function schedule_key(name)
  return key('schedule', name)
end

-- When the schedule fires; and of an interval from when it runs until then: before that the clock was set back.
local function set_firing(name, at, since)
  call('ZADD', key('firing'), at, name)
  call('ZREM', key('firing_since'), name)
  if since then call('ZADD', key('firing_since'), since, name) end
end

function VERBS.put_schedule()
  local one = ARGS.schedule
  local name = schedule_key(one.name)
  local known = load(name, {'rule', 'zone'})
  local stays = known.rule == one.rule and known.zone == one.zone
  store(name, {rule = one.rule, zone = one.zone, task = one.task, next = not stays and one.next or nil})
  call('HSETNX', name, 'created', TODAY)
  call('HSETNX', name, 'fired', '0')
  call('ZADD', key('schedules'), 0, one.name)
  if not stays then set_firing(one.name, one.next, given(one.since)) end
  next_seq()
  return known.rule and 0 or 1
end

function VERBS.remove_schedule()
  call('DEL', schedule_key(ARGS.name))
  call('ZREM', key('firing'), ARGS.name)
  call('ZREM', key('firing_since'), ARGS.name)
  return call('ZREM', key('schedules'), ARGS.name)
end

local function schedules_of(names)
  local found = {}
  for i, name in ipairs(names) do found[i] = row(schedule_key(name), SCHEDULE, name) end
  return found
end

function VERBS.list_schedules()
  return schedules_of(call('ZRANGE', key('schedules'), ARGS.offset, ARGS.offset + ARGS.limit - 1))
end

function VERBS.find_due_schedules()
  local following = call('ZRANGEBYSCORE', key('firing'), '(' .. TODAY, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local wait = following[2] and string.format('%.6f', (tonumber(following[2]) - NOW) / 1000000) or ''
  local stalled = call('ZREVRANGEBYSCORE', key('firing_since'), '+inf', '(' .. TODAY, 'LIMIT', 0, ARGS.limit)
  return {schedules_of(due(key('firing'), ARGS.limit)), schedules_of(stalled), TODAY, wait}
end

function VERBS.fire()
  local answers, fired = {}, {}
  for i, one in ipairs(ARGS.firings) do
    local name = schedule_key(one.name)
    local at = call('HGET', name, 'next')
    answers[i] = at == whole(one.at) and 1 or 0
    if answers[i] == 1 then
      store(name, {next = one.next})
      set_firing(one.name, one.next, given(one.since))
      if given(one.task) then
        store(name, {fired_at = at})
        call('HINCRBY', name, 'fired', 1)
        fired[#fired + 1] = one.task
      end
    end
  end
  ARGS.tasks = fired
  return {answers, VERBS.submit()[2]}
end
