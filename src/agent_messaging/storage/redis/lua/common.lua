-- What every verb stands on: the keys, the time, the counters, and the guard that notices lost data.
--
-- One script holds all verbs. All keys have one hash tag, so they are in one slot of a cluster, and a verb that changes
-- agents, tasks and messages at once is one atomic step. Instants are microseconds, written as whole numbers.
-- A verb that can run out of memory does so at its first write, and has then changed nothing.

local STEP = 1125899906842624  -- 2^50: scores are a priority times this, plus a number in order of storing
local CHUNK = 200
local TOLERANCE = 1000000  -- Microseconds. Two clocks that differ by more have jumped; less is followed.
local FRESH = 8000000  -- A process that lives has renewed its life within these.

-- Of one call; `begin` sets them.
local PREFIX, VERB, EPOCH, SEEN, ARGS, NOW, TODAY
local server_time  -- The server's clock, and the shift that makes up for its jumps.
local seq  -- The number of the newest change. Whoever has seen a higher one knows that changes were lost.
local reserved  -- Numbers behind it that are this verb's already.
local began  -- What it was when the verb began.
local tallies  -- Counters are added up while the verb runs, and written once.
local lists  -- Changes of sorted sets, which are written together by `write_lists`: a call of its own for each costs more.
local listeners, heard_by  -- The processes that wait for messages which were put; the agents that were looked up.
local booked_workers  -- Those that were given or let go of tasks. They are written once, by `write_bookings`.
local origins  -- The processes that are to look: they stored or run what moved, or could take it now.
local known_groups  -- Groups of tasks that are in the pool as this verb has left it.
local has_named_pullers  -- Those that could take it are among them.

local function call(...)
  return redis.call(...)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The table of a stored JSON text; empty where a stranger wrote something else.
local function decode(text)
  local is_json, value = pcall(cjson.decode, text)
  return is_json and type(value) == 'table' and value or {}, is_json
end

local function given(value)
  if value == nil or value == cjson.null then return nil end
  return value
end

local function set_of(list)
  if not given(list) then return nil end
  local set = {}
  for _, one in ipairs(list) do set[one] = true end
  return set
end

local function key(...)
  return PREFIX .. table.concat({...}, ':')
end

-- Store time. The caller has counted on since its last answer; where it comes to another time than the server, the server's
-- clock was set, or the caller stood still. In the second case the others, who renew their lives, are with the server.
local function read_clock(counted)
  local time, clock = call('TIME'), call('HMGET', key('clock'), 'shift', 'last')
  server_time = tonumber(time[1]) * 1000000 + tonumber(time[2]) + (tonumber(clock[1] or '') or 0)
  if not counted or math.abs(counted - server_time) <= TOLERANCE then return server_time end
  local last = tonumber(clock[2] or '')
  local is_one_of_many = last and last >= server_time - FRESH and last <= server_time + TOLERANCE
  return is_one_of_many and server_time or counted
end

local function begin(keys, arguments)
  PREFIX = string.sub(keys[1], 1, -6)  -- without "epoch"
  VERB, EPOCH, SEEN = arguments[1], arguments[2], tonumber(arguments[3])
  ARGS = cjson.decode(arguments[4])
  NOW = read_clock(tonumber(arguments[5]))
  NOW = given(ARGS.now) or NOW
  TODAY = whole(NOW)
  seq = tonumber(call('GET', key('seq')) or '0')
  began, reserved = seq, 0
  lists = {}
  tallies, origins, listeners, heard_by, booked_workers, known_groups = {}, {}, {}, {}, {}, {}
  has_named_pullers = false
end

-- Takes so many numbers at once, for as many that are going to be stored.
local function reserve_seqs(number)
  call('INCRBY', key('seq'), number)
  reserved = reserved + number
end

local function next_seq()
  if reserved == 0 then reserve_seqs(1) end
  reserved = reserved - 1
  seq = seq + 1
  return seq
end

-- Puts the member into the sorted set at the end of the verb, or takes it out (no score); the last word on it counts.
local function enlist(name, member, score)
  local members = lists[name]
  if not members then
    members = {}
    lists[name] = members
  end
  members[member] = score or false
end

-- Before anybody reads a sorted set whose changes wait.
local function write_lists()
  for name, members in pairs(lists) do
    local added, removed = {}, {}
    for member, score in pairs(members) do
      if score then
        added[#added + 1] = score
        added[#added + 1] = member
      else
        removed[#removed + 1] = member
      end
      if #added >= 2000 then
        call('ZADD', name, unpack(added))
        added = {}
      end
      if #removed >= 2000 then
        call('ZREM', name, unpack(removed))
        removed = {}
      end
    end
    if #added > 0 then call('ZADD', name, unpack(added)) end
    if #removed > 0 then call('ZREM', name, unpack(removed)) end
  end
  lists = {}
end

local function tally(name, field, by)
  local fields = tallies[name]
  if not fields then
    fields = {}
    tallies[name] = fields
  end
  fields[field] = (fields[field] or 0) + by
end

-- A verb that has counted something has changed something, which is to be noticed where it gets lost. A counter that is back
-- at nothing goes, so nothing stays of a supervisor whose tasks are gone.
local function write_tallies()
  if seq == began and next(tallies) then next_seq() end
  for name, fields in pairs(tallies) do
    for field, by in pairs(fields) do
      if by ~= 0 and call('HINCRBY', name, field, by) == 0 then call('HDEL', name, field) end
    end
  end
end

local function load(name, fields)
  local values = call('HMGET', name, unpack(fields))
  local loaded = {}
  for i, field in ipairs(fields) do loaded[field] = values[i] or nil end
  return loaded
end

-- The same, and nothing at all where one of these numbers is missing: the hash was evicted, or a stranger changed it. It
-- then has no state, so every verb passes it over, and forgets its name where it comes upon it.
local function load_whole(name, fields, numbers)
  local loaded = load(name, fields)
  for _, field in ipairs(numbers) do
    if not tonumber(loaded[field]) then return {} end
  end
  return loaded
end

-- A Lua table as the flat list of names and values that HSET takes; what is nil is left out.
local function store(name, fields)
  local flat = {}
  for field, value in pairs(fields) do
    flat[#flat + 1] = field
    flat[#flat + 1] = type(value) == 'number' and whole(value) or value
  end
  call('HSET', name, unpack(flat))
end

local function row(name, fields, ...)
  local values = call('HMGET', name, unpack(fields))
  for i = 1, #fields do values[i] = values[i] or '' end
  for _, extra in ipairs({...}) do values[#values + 1] = extra end
  return values
end

-- The same with the values of `numbers` as one, a word for each: a client reads few long values faster than many.
local function packed_row(name, numbers, texts, ...)
  local values = call('HMGET', name, unpack(numbers))
  for i = 1, #numbers do values[i] = values[i] or '' end
  return row(name, texts, table.concat(values, '\n'), ...)
end

local function head_of(name)
  write_lists()
  local first = call('ZRANGE', name, 0, 0, 'WITHSCORES')
  return tonumber(first[2])
end

-- Seconds until the earliest of these sorted sets has something due; empty if none ever has.
local function next_in(more, names)
  if more then return '0' end
  local earliest
  for _, name in ipairs(names) do
    local score = head_of(name)
    if score and (not earliest or score < earliest) then earliest = score end
  end
  if not earliest then return '' end
  return string.format('%.6f', math.max(earliest - NOW, 0) / 1000000)
end

local function due(name, limit)
  write_lists()
  return call('ZRANGEBYSCORE', name, '-inf', TODAY, 'LIMIT', 0, limit)
end

-- How many members the sorted sets have that are older, and about how many bytes: of the first of them, taken for all.
local function measure(names, bytes_of)
  local before = '(' .. whole(NOW - ARGS.older_than)
  local number, known, bytes = 0, 0, 0
  for _, name in ipairs(names) do
    number = number + call('ZCOUNT', name, '-inf', before)
    for _, member in ipairs(call('ZRANGEBYSCORE', name, '-inf', before, 'LIMIT', 0, CHUNK)) do
      known, bytes = known + 1, bytes + bytes_of(member)
    end
  end
  return {number, known > 0 and math.floor(bytes / known * number) or 0}
end

-- END_OF, ATTEMPTS_AFTER and WHY come from the rules in Python (storage/workload.py), as tables.
local function end_of(how, attempt, most)
  return END_OF[how][attempt >= most and 'last' or 'more']
end

local function attempts_after(how, attempt)
  return math.max(attempt + ATTEMPTS_AFTER[how], 0)
end

local function names_of(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  return names
end

local VERBS = {}
