-- What every script of the queue begins with.
-- KEYS[1]: the generation in the function's slot (`{sluice:12}:generation`). All other keys of a script begin with the
-- same base, so they share its slot; those that follow from numbers which only the script knows are made here.
-- ARGV[1]: the generation that the client opened. ARGV[2]: now, wall-clock milliseconds. ARGV[3]: retention, milliseconds.
local base = string.sub(KEYS[1], 1, -#'generation' - 1)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('SLUICE data_lost the generation of ' .. base .. ' is another')
end
local fn = tonumber(string.match(base, ':(%d+)}:$'))
local now = tonumber(ARGV[2])
local retention = tonumber(ARGV[3])

-- How much longer than the retention a key stays where no sweep removes it.
local TTL_SLACK = 600000

local function key(name, part)
  if part == nil then return base .. name end
  return base .. name .. ':' .. part
end

-- Ids as people outside the function's slot know them, in decimal.
local function id_of(n) return string.format('%.0f', fn * 549755813888 + n) end
local function version_id_of(v) return string.format('%.0f', fn * 4096 + v) end

-- The function's counters, one hash: read at the first use, written once by flush_counters.
--   call, batch, turn: numbers given last; waiting_rows, waiting_calls, sealed_rows, live_calls: what is there;
--   run, lost (texts, beside the counters): the server's run that gave numbers last; numbers of calls that it passed over
--   ended_0, 1, 2, 3: rows that are ok, failed, cancelled, expired (parts/calls), since the function's first
--   open_bytes: payload bytes of rows without an outcome; low: no bucket of calls below this one; floor: missing calls above it are gone, others unknown
local NAMES = { 'call', 'batch', 'turn', 'waiting_rows', 'open_bytes', 'waiting_calls', 'sealed_rows', 'live_calls', 'low', 'floor',
  'ended_0', 'ended_1', 'ended_2', 'ended_3' }
local counters
local changed_counters = {}

local function counter(name)
  if counters == nil then
    counters = {}
    local values = redis.call('HMGET', key('queue'), unpack(NAMES))
    for i, each in ipairs(NAMES) do counters[each] = tonumber(values[i] or 0) end
  end
  return counters[name]
end

local function set_counter(name, value)
  counter(name)
  counters[name] = value
  changed_counters[name] = true
end

local function count(name, by)
  if by ~= 0 then set_counter(name, counter(name) + by) end
end

local function flush_counters()
  local args = {}
  for name in pairs(changed_counters) do
    args[#args + 1] = name
    args[#args + 1] = string.format('%.0f', counters[name])
  end
  if #args > 0 then redis.call('HSET', key('queue'), unpack(args)) end
end

-- include: server
local is_run_known = false

-- This run of the server, and the one that gave numbers last.
local function runs() return server_run(), redis.call('HGET', key('queue'), 'run') end

-- Spans of numbers that calls may have had which the server lost: a MessagePack list of first, last, first, last, …
local function lost_spans()
  local packed = redis.call('HGET', key('queue'), 'lost')
  return packed and cmsgpack.unpack(packed) or {}
end

-- One span a life of the server; the sweep takes those that the floor has passed, some two retentions later.
local LOST_SPANS_MAX = 64

local function pass_over_lost()
  local spans, last = lost_spans(), counter('call')
  spans[#spans + 1] = last + 1
  spans[#spans + 1] = last + LOST_NUMBERS
  local from = math.max(1, #spans - 2 * LOST_SPANS_MAX + 1)
  redis.call('HSET', key('queue'), 'lost', cmsgpack.pack({ unpack(spans, from) }))
  count('call', LOST_NUMBERS)
end

-- Gives the next number of `call` or `batch`.
local function next_number(name)
  if not is_run_known then
    is_run_known = true
    local run, known = runs()
    if run and run ~= known then
      redis.call('HSET', key('queue'), 'run', run)
      if known then
        pass_over_lost()
        count('batch', LOST_NUMBERS)
      end
    end
  end
  count(name, 1)
  return counter(name)
end

-- Whether a version may be used: the registry keeps its record.
local function has_version(v) return redis.call('HEXISTS', key('versions'), v) == 1 end

local function no_version(v)
  return redis.error_reply('SLUICE function_not_found There is no function version ' .. version_id_of(v) .. '.')
end

-- head: what each message begins with.
local function publish(channel, texts, head)
  -- A message holds some thousand ids at most.
  for at = 1, #texts, 4000 do
    redis.call('PUBLISH', key('to-' .. channel), (head or '') .. table.concat(texts, ' ', at, math.min(at + 3999, #texts)))
  end
end
