-- Tasks. A task is a hash, which is the truth. A sorted set for each state has the ids in order of storing. What is open
-- and held by a worker is in the set of that worker; sorted sets have what comes due. What waits is in the pool: a sorted
-- set for each type and needs, by priority and order of storing. What was assigned once and has returned is also in one
-- for its needs alone (`waiting_tasks`), in the same order.

local HELD = {assigned = true, running = true}
local OPEN_TASK = {queued = true, assigned = true, running = true}
local TASK = {
  'type', 'description', 'needs', 'priority', 'content', 'checksum', 'supervisor', 'state', 'worker', 'token',
  'attempt', 'max_attempts', 'origin', 'result', 'result_checksum', 'reason', 'fraction', 'note', 'created',
  'deadline', 'assigned', 'settled', 'log', 'owner',
}
local ENDED_TASK = {'state', 'reason', 'result', 'result_checksum'}
local TASK_STATE = {
  'state', 'token', 'attempt', 'max_attempts', 'worker', 'supervisor', 'priority', 'number', 'ended_as', 'origin',
  'run_limit', 'message', 'needs', 'type', 'log', 'assigned', 'owner', 'is_assigned', 'deadline',
  'suspect',
}

local function task_key(id)
  return key('t', id)
end

local function load_task(id)
  local task = load_whole(task_key(id), TASK_STATE, {'token', 'attempt', 'max_attempts', 'priority', 'number'})
  return task.needs and task.type and task or {}
end

local function recount_task(task, from, to)
  local names = {key('task_counts')}
  if task.supervisor then names[2] = key('task_counts', task.supervisor) end
  for _, name in ipairs(names) do
    if from then tally(name, from, -1) end
    if to then tally(name, to, 1) end
  end
end

-- Lists and counts the task under another state; nil is none.
local function move_task(id, task, from, to)
  if from == to then return end
  if from then enlist(key('tasks', from), id) end
  if to then enlist(key('tasks', to), id, task.number) end
  local was_open, is_open = from and OPEN_TASK[from], to and OPEN_TASK[to]
  if task.supervisor and is_open and not was_open then
    enlist(key('open_of', task.supervisor), id, task.number)
  elseif task.supervisor and was_open and not is_open then
    enlist(key('open_of', task.supervisor), id)
  end
  recount_task(task, from, to)
end

local function group_of(task)
  return task.needs .. '\n' .. task.type
end

local function score_of(task)
  return whole(tonumber(task.priority) * STEP + tonumber(task.number))
end

local function name_pullers()
  if has_named_pullers then return end
  has_named_pullers = true
  for _, process in ipairs(call('SMEMBERS', key('pullers'))) do origins[process] = true end
end

-- Puts the task where workers take it, and supervisors assign it again.
local function wait_for_worker(id, task)
  local group = group_of(task)
  enlist(key(task.suspect and 'suspects' or 'pool', group), id, score_of(task))
  if task.suspect or not known_groups[group] then
    call('SADD', key(task.suspect and 'suspect_pools' or 'pools'), group)
    known_groups[group] = not task.suspect
  end
  if task.is_assigned then
    call('ZADD', key('waiting_tasks', task.needs), score_of(task), id)
    call('SADD', key('waiting_needs'), task.needs)
  end
  name_pullers()
end

local function leave_pool(id, task)
  local group = group_of(task)
  write_lists()
  for _, names in ipairs({{'pool', 'pools'}, {'suspects', 'suspect_pools'}}) do
    if call('ZREM', key(names[1], group), id) == 1 then
      if call('EXISTS', key(names[1], group)) == 0 then
        call('SREM', key(names[2]), group)
        known_groups[group] = nil
      end
      break
    end
  end
  if task.is_assigned then call('ZREM', key('waiting_tasks', task.needs), id) end
end

-- Takes the task away from whoever has it, and gives the room back.
local function let_go_of_task(id, task)
  if not HELD[task.state] then
    leave_pool(id, task)
    call('ZREM', key('later_tasks'), id)
    return
  end
  enlist(key('overdue'), id)
  if task.state == 'running' then
    enlist(key('runs', task.owner), id)
  else
    call('ZREM', key('given', task.worker), id)
  end
  if call('SREM', key('held', task.worker), id) == 1 then
    local worker = find_worker(task.worker)
    if worker then book(worker, -1) end
  end
end

local function write_log(id, task, event, reason)
  local log = decode(task.log)
  log[#log + 1] = {TODAY, event, task.attempt, task.worker or '', reason or ''}
  task.log = cjson.encode(log)
  call('HSET', task_key(id), 'log', task.log)
end

local function end_task(id, task, state, ended_as, values)
  let_go_of_task(id, task)
  if task.deadline then enlist(key('deadlines'), id) end
  if task.origin then origins[task.origin] = true end
  values.state, values.ended_as, values.settled = state, ended_as, TODAY
  if task.suspect then call('HDEL', task_key(id), 'suspect') end
  store(task_key(id), values)
  enlist(key('ended_tasks', state), id, TODAY)
  if state == 'done' and task.supervisor then enlist(key('done_of', task.supervisor), id, TODAY) end
  move_task(id, task, task.state, state)
end

-- `suspect`: a process died that ran it, and no run of it was settled since.
local function return_task(id, task, ended_as, attempt, delay, reason, suspect)
  let_go_of_task(id, task)
  if task.suspect and not suspect then call('HDEL', task_key(id), 'suspect') end
  task.suspect = suspect
  store(task_key(id), {state = 'queued', ended_as = ended_as, attempt = attempt, reason = reason, suspect = suspect})
  move_task(id, task, task.state, 'queued')
  if delay > 0 then
    call('ZADD', key('later_tasks'), whole(NOW + delay), id)
  else
    wait_for_worker(id, task)
  end
end

local function lose_task(id, task, word, reason, suspect)
  local attempt, most = tonumber(task.attempt), tonumber(task.max_attempts)
  write_log(id, task, word, reason)
  if task.state == 'running' then origins[task.owner] = true end
  if LOST_END[attempt >= most and 'last' or 'more'] == 'failed' then
    end_task(id, task, 'failed', word, {reason = reason})
  else
    return_task(id, task, word, attempt, 0, reason, suspect)
  end
end

local function give_task_back(id, task, reason)
  write_log(id, task, 'returned', reason)
  return_task(id, task, 'returned', attempts_after('returned', tonumber(task.attempt)), 0, reason)
end

function return_tasks(worker, is_lost)
  for _, id in ipairs(call('SMEMBERS', key('held', worker.id))) do
    local task = load_task(id)
    if HELD[task.state] and is_lost then
      lose_task(id, task, 'overdue', WHY.overdue, task.suspect)
    elseif HELD[task.state] then
      give_task_back(id, task, WHY.left)
    end
  end
  call('DEL', key('held', worker.id))
  call('DEL', key('given', worker.id))
  local left = find_worker(worker.id)
  if left and tonumber(left.booked) > 0 then book(left, -tonumber(left.booked)) end  -- for tasks whose hashes are gone
end

-- Gives the task to the worker, and puts its message into the worker's queue.
local function assign(id, task, worker)
  local token = tonumber(task.token) + 1
  store(task_key(id), {
    state = 'assigned', worker = worker.id, token = token, assigned = TODAY, fraction = token > 1 and '0' or nil,
    attempt = tonumber(task.attempt) + 1,
  })
  call('HDEL', task_key(id), 'ended_as', 'note', 'owner')
  if token > 1 then leave_pool(id, task) end
  call('SADD', key('held', worker.id), id)
  call('ZADD', key('given', worker.id), score_of(task), id)
  for _, process in ipairs(call('SMEMBERS', key('served', worker.id))) do origins[process] = true end
  if task.run_limit then enlist(key('overdue'), id, whole(NOW + tonumber(task.run_limit))) end
  book(worker, 1)
  if task.message and worker.pulls ~= '1' then
    local message = decode(task.message)
    message.agent = worker.id
    if message.id then  -- otherwise nobody can be told
      if token > 1 then message.id = message.id .. '-' .. whole(token) end
      put_message(message)
    end
  end
  return token
end

local function news(answers)
  return {answers, names_of(origins), names_of(listeners)}
end

-- Stores a task that is not known, as queued; it is not yet where anybody looks for it.
local function store_task(one, is_assigned)
  local task = {
    type = one.type, description = one.description, needs = one.capabilities, priority = one.priority,
    content = one.content, checksum = one.checksum, supervisor = given(one.supervisor), state = 'queued', token = 0,
    attempt = 0, max_attempts = one.max_attempts, origin = given(ARGS.origin), created = TODAY,
    run_limit = given(one.run_limit), message = given(one.message), trace = given(one.trace), is_assigned = is_assigned,
    deadline = given(one.expires_in) and NOW + one.expires_in or nil,
  }
  task.number = next_seq()
  store(task_key(one.id), task)
  if task.deadline then enlist(key('deadlines'), one.id, whole(task.deadline)) end
  move_task(one.id, task, nil, is_assigned and 'assigned' or 'queued')
  return task
end

function VERBS.assign()
  local answers = {}
  for i, one in ipairs(ARGS.tasks) do
    local known = load(task_key(one.id), {'state', 'worker', 'token'})
    local worker = not known.state and choose(one.needs)
    if known.state then
      answers[i] = {'known', known.state, known.worker or '', known.token}
    elseif not worker then
      answers[i] = {'nobody'}
    else
      answers[i] = {'assigned', worker.id, whole(assign(one.id, store_task(one, '1'), worker))}
    end
  end
  return news(answers)
end

-- The first of those whose needs a free worker covers. Each set of needs is tried until nobody fits, so a long backlog of
-- one that nobody can do costs nothing.
function VERBS.assign_waiting()
  local answers, groups = {}, {}
  for _, text in ipairs(call('SMEMBERS', key('waiting_needs'))) do
    local needs, is_json = decode(text)
    if is_json then groups[#groups + 1] = {text = text, needs = needs} end
  end
  while #answers < ARGS.limit do
    local first
    for _, group in ipairs(groups) do
      if not group.id and not group.is_done then
        local head = call('ZRANGE', key('waiting_tasks', group.text), 0, 0, 'WITHSCORES')
        group.id, group.score = head[1], tonumber(head[2])
        if not group.id then
          group.is_done = true
          call('SREM', key('waiting_needs'), group.text)
        end
      end
      if group.id and (not first or group.score < first.score) then first = group end
    end
    if not first then break end
    local id, task = first.id, load_task(first.id)
    first.id = nil
    local worker = task.state == 'queued' and choose(first.needs)
    if worker then
      move_task(id, task, 'queued', 'assigned')
      answers[#answers + 1] = {id, worker.id, whole(assign(id, task, worker))}
    elseif task.state == 'queued' then
      first.is_done = true
    else
      call('ZREM', key('waiting_tasks', first.text), id)
    end
  end
  return news(answers)
end

local function settle_tasks(settlements)
  local answers = {}
  for i, one in ipairs(settlements) do
    local task = load_task(one.id)
    if not task.token or tonumber(task.token) ~= one.token then
      answers[i] = 0
    elseif not HELD[task.state] then
      answers[i] = task.ended_as == one.how and 1 or 0
    else
      local attempt = tonumber(task.attempt)
      local finish = end_of(one.how, attempt, tonumber(task.max_attempts))
      local event = given(one.event)
      if event then write_log(one.id, task, event, given(one.reason)) end
      if finish == 'again' then
        return_task(one.id, task, one.how, attempts_after(one.how, attempt), one.delay or 0, given(one.reason))
      else
        end_task(one.id, task, finish == 'done' and 'done' or 'failed', one.how, {
          result = given(one.result), result_checksum = given(one.checksum), reason = given(one.reason),
          fraction = finish == 'done' and '1' or nil,
        })
      end
      answers[i] = 1
    end
  end
  return answers
end

function VERBS.settle_tasks()
  return news(settle_tasks(ARGS.settlements))
end

function VERBS.progress()
  local answers = {}
  for i, one in ipairs(ARGS.reports) do
    local task = load(task_key(one.id), {'state', 'token'})
    local holds = HELD[task.state] and tonumber(task.token) == one.token
    if holds then
      call('HDEL', task_key(one.id), 'note')
      store(task_key(one.id), {fraction = one.fraction, note = given(one.note)})
    end
    answers[i] = holds and 1 or 0
  end
  return answers
end

function VERBS.cancel()
  local answers = {}
  for i, id in ipairs(ARGS.ids) do
    local task = load_task(id)
    answers[i] = OPEN_TASK[task.state] and 1 or 0
    if OPEN_TASK[task.state] then
      if task.state == 'running' then origins[task.owner] = true end
      end_task(id, task, 'cancelled', 'cancelled', {reason = ARGS.reason})
    end
  end
  return news(answers)
end

function VERBS.reprioritise()
  local answers = {}
  for i, id in ipairs(ARGS.ids) do
    local task = load_task(id)
    answers[i] = task.state == 'queued' and 1 or 0
    if task.state == 'queued' then
      call('HSET', task_key(id), 'priority', ARGS.priority)
      task.priority = ARGS.priority
      local group = group_of(task)
      for _, name in ipairs({key('pool', group), key('suspects', group), key('waiting_tasks', task.needs)}) do
        call('ZADD', name, 'XX', score_of(task), id)
      end
    end
  end
  return answers
end

function VERBS.redrive_tasks()
  local redriven, type = {}, given(ARGS.type)
  for _, id in ipairs(given(ARGS.ids) or call('ZRANGE', key('ended_tasks', 'failed'), 0, -1)) do
    local task = load_task(id)
    if task.state == 'failed' and (not type or type == task.type) then
      call('ZREM', key('ended_tasks', 'failed'), id)
      write_log(id, task, 'redriven', nil)
      call('HDEL', task_key(id), 'suspect', 'deadline', 'result', 'result_checksum', 'note', 'settled')
      store(task_key(id), {state = 'queued', attempt = 0, fraction = '0'})
      move_task(id, task, 'failed', 'queued')
      wait_for_worker(id, task)
      redriven[#redriven + 1] = id
    end
  end
  return {redriven, names_of(origins)}
end

function VERBS.find_tasks()
  local found = {}
  for _, id in ipairs(ARGS.ids) do
    if call('EXISTS', task_key(id)) == 1 then found[#found + 1] = row(task_key(id), TASK, id) end
  end
  return found
end

function VERBS.find_ended()
  local missing, found = {}, {}
  for _, id in ipairs(ARGS.ids) do
    local task = row(task_key(id), ENDED_TASK, id)
    if task[1] == '' then
      missing[#missing + 1] = id
    elseif not OPEN_TASK[task[1]] then
      found[#found + 1] = task
    end
  end
  return {missing, found}
end

local STATES = {'queued', 'assigned', 'running', 'done', 'failed', 'cancelled', 'expired'}

-- The sets that have what is asked for; see `workload.way_of`.
local function lists_of(states)
  if ARGS.way == 'open' then return {key('open_of', ARGS.supervisor)} end
  local names = {}
  for _, state in ipairs(STATES) do
    if not states or states[state] then names[#names + 1] = key('tasks', state) end
  end
  return names
end

function VERBS.list_tasks()
  local states, supervisor = set_of(ARGS.states), given(ARGS.supervisor)
  local type, worker = given(ARGS.type), given(ARGS.worker)
  local found, offset, below = page(lists_of(states), type or worker or supervisor, function(id)
    local task = load(task_key(id), {'state', 'type', 'worker', 'supervisor'})
    if not task.state then  -- it was evicted
      for _, state in ipairs(STATES) do call('ZREM', key('tasks', state), id) end
      return false
    end
    return (not states or states[task.state]) and (not type or type == task.type)
      and (not worker or worker == task.worker) and (not supervisor or supervisor == task.supervisor)
  end)
  for i, id in ipairs(found) do found[i] = row(task_key(id), TASK, id) end
  return {found, offset, below}
end

-- Gives the room back of a run whose task is gone.
local function forget_run(owner, id)
  call('ZREM', key('runs', owner), id)
  for _, worker_id in ipairs(call('SMEMBERS', key('serves', owner))) do
    local worker = call('SREM', key('held', worker_id), id) == 1 and find_worker(worker_id)
    if worker then book(worker, -1) end
  end
end

local function runs_suspect(owner)
  write_lists()
  local has_suspect = false
  for _, id in ipairs(call('ZRANGE', key('runs', owner), 0, -1)) do
    local task = load(task_key(id), {'state', 'suspect'})
    if not task.state then forget_run(owner, id) end
    has_suspect = has_suspect or task.suspect ~= nil
  end
  return has_suspect
end

-- Returns what these processes ran; `counted` says that they died, and did not stop. Where one ran suspects, they alone
-- are to blame.
local function release_runs(owners, counted)
  local released = 0
  for _, owner in ipairs(owners) do
    local convicted = runs_suspect(owner)
    for _, id in ipairs(call('ZRANGE', key('runs', owner), 0, -1)) do
      local task = load_task(id)
      if task.state ~= 'running' then
        call('ZREM', key('runs', owner), id)
      elseif counted and (task.suspect or not convicted) then
        lose_task(id, task, 'lost', WHY.lost, '1')
      elseif counted then  -- another one is to blame
        write_log(id, task, 'lost', WHY.lost)
        return_task(id, task, 'lost', attempts_after('returned', tonumber(task.attempt)), 0, WHY.lost)
      else
        give_task_back(id, task, WHY.stopped)
      end
      released = released + (task.state == 'running' and 1 or 0)
    end
    for _, id in ipairs(call('SMEMBERS', key('serves', owner))) do
      call('SREM', key('served', id), owner)
      local worker = find_worker(id)
      if worker and call('EXISTS', key('served', id)) == 0 then
        return_tasks(worker, false)
        worker = find_worker(id)
        worker.status = 'offline'
        call('HSET', worker_key(id), 'status', 'offline')
        place(worker)
      end
    end
    call('DEL', key('serves', owner))
    call('SREM', key('pullers'), owner)
  end
  return released
end

function VERBS.release_tasks()
  return release_runs(ARGS.owners, true)
end

local function tasks_due_in(more)
  return next_in(more, {key('deadlines'), key('overdue'), key('alive'), key('later_tasks')})
end

function VERBS.advance_tasks()
  local expired, ended, released = due(key('deadlines'), CHUNK), 0, 0
  for _, id in ipairs(expired) do
    local task = load_task(id)
    if task.state == 'running' then origins[task.owner] = true end
    if OPEN_TASK[task.state] then
      end_task(id, task, 'expired', 'expired', {reason = WHY.expired})
      ended = ended + 1
    else
      call('ZREM', key('deadlines'), id)
    end
  end
  local overdue = due(key('overdue'), CHUNK)
  for _, id in ipairs(overdue) do
    local task = load_task(id)
    if HELD[task.state] then
      lose_task(id, task, 'overdue', WHY.overdue, task.suspect)
      released = released + 1
    else
      call('ZREM', key('overdue'), id)
    end
  end
  local dead = due(key('alive'), CHUNK)
  for _, id in ipairs(dead) do
    local worker = find_worker(id)
    call('ZREM', key('alive'), id)
    call('ZADD', key('dead'), worker and worker['until'] or TODAY, id)
    if worker then leave_order(worker) end
    if worker and worker.pulls ~= '1' then  -- what pulls has its tasks for as long as its processes live
      released = released + call('SCARD', key('held', id))
      return_tasks(worker, true)
    end
  end
  local later = due(key('later_tasks'), CHUNK)
  for _, id in ipairs(later) do
    call('ZREM', key('later_tasks'), id)
    local task = load_task(id)
    if task.state == 'queued' then wait_for_worker(id, task) end
  end
  local more = #expired == CHUNK or #overdue == CHUNK or #dead == CHUNK or #later == CHUNK
  return {released, ended, #later, news({})[2], tasks_due_in(more)}
end

function VERBS.task_statistics()
  local supervisor = given(ARGS.supervisor)
  local counts = call('HGETALL', supervisor and key('task_counts', supervisor) or key('task_counts'))
  local done = call('ZREVRANGE', supervisor and key('done_of', supervisor) or key('ended_tasks', 'done'), 0, 999)
  local total, number = 0, 0
  for _, id in ipairs(done) do
    local task = load(task_key(id), {'assigned', 'settled'})
    if tonumber(task.assigned) and tonumber(task.settled) then
      total = total + tonumber(task.settled) - tonumber(task.assigned)
      number = number + 1
    end
  end
  -- The first in order of storing that is due. What is to wait is passed over, some thousand at most.
  local oldest
  local list, start = supervisor and key('open_of', supervisor) or key('tasks', 'queued'), 0
  while not oldest and start < 10 * CHUNK do
    local ids = call('ZRANGE', list, start, start + CHUNK - 1)
    if #ids == 0 then break end
    start = start + #ids
    for _, id in ipairs(ids) do
      local task = load(task_key(id), {'state', 'created'})
      if task.state == 'queued' and tonumber(task.created) and not call('ZSCORE', key('later_tasks'), id) then
        oldest = tonumber(task.created)
        break
      end
    end
  end
  return {
    counts,
    number > 0 and string.format('%.6f', total / number / 1000000) or '',
    oldest and string.format('%.6f', (NOW - oldest) / 1000000) or '',
  }
end

function VERBS.prune_tasks()
  local pruned = 0
  for _, state in ipairs(ARGS.states) do
    local name = key('ended_tasks', state)
    local before = '(' .. whole(NOW - ARGS.older_than)
    for _, id in ipairs(call('ZRANGEBYSCORE', name, '-inf', before, 'LIMIT', 0, ARGS.limit - pruned)) do
      local task = load(task_key(id), {'supervisor'})
      call('ZREM', name, id)
      if task.supervisor then call('ZREM', key('done_of', task.supervisor), id) end
      call('DEL', task_key(id))
      move_task(id, task, state, nil)
      pruned = pruned + 1
    end
    if pruned >= ARGS.limit then break end
  end
  return pruned
end

function VERBS.measure_tasks()
  local names = {}
  for i, state in ipairs(ARGS.states) do names[i] = key('ended_tasks', state) end
  return measure(names, function(id)
    local name, bytes = task_key(id), 0
    for _, field in ipairs({'content', 'description', 'result', 'log'}) do bytes = bytes + call('HSTRLEN', name, field) end
    return bytes
  end)
end
