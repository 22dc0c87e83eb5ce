#!lua flags=allow-oom
-- Releases the records of calls with many parts, then drops calls that are past their retention. A swept call is gone until its number falls to the floor, then unknown:
-- the highest number swept until a time becomes the floor one retention later, so nothing is kept for a swept call.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 calls at most
-- Result  { calls that were dropped, 1 where more is due }
-- include: base
-- include: calls
-- include: objects
local limit = tonumber(ARGV[4])
-- Marks kept for one retention: a call is gone for up to a 24th longer than said.
local MARKS = 24
local swept, highest = 0, 0
local fields = {}

-- Where the sweep comes late, the key has ended before, and may name another call by now.
local function drop_idempotency(name, n)
  local known = redis.call('GET', key('idempotency', name))
  if not known then return end
  local _, named = struct.unpack('>BI5', known)
  if named == n then redis.call('DEL', key('idempotency', name)) end
end

local function drop_record(m)
  drop_object(redis.call('HGET', key('output', m), 's'))
  redis.call('UNLINK', key('output', m), key('bytes', m))
end

-- Counts a call off a record, once: its parts in one record need not be neighbours, and a step sees a few of them.
local function release(m, n, why)
  local field = why == ON_SWEEP and 'r' or 'u'
  if redis.call('HEXISTS', key('output', m), field) == 0 then return end
  if redis.call('HSETNX', key('output', m), field .. n, 1) == 0 then return end
  if redis.call('HINCRBY', key('output', m), field, -1) > 0 then return end
  if why == ON_SWEEP then drop_record(m) else expire_record(m) end
end

-- The next parts of the call that stands first in `releasing`. Swept parts go; finished ones stay, and their ranks with them.
local function release_step(why, n, rank, record)
  local most = RELEASED_MAX - released
  local parts = redis.call('ZRANGE', key('parts', n), rank, rank + most - 1)
  for _, packed in ipairs(parts) do
    local part = cmsgpack.unpack(packed)
    if part[1] <= PART_FAILED and part[4] ~= record then release(part[4], n, why) end
  end
  released = released + #parts
  if why == ON_SWEEP then redis.call('ZREMRANGEBYRANK', key('parts', n), 0, most - 1) else rank = rank + #parts end
  if #parts == most then
    redis.call('LSET', key('releasing'), 0, cmsgpack.pack({ why, n, rank, record }))
  else
    redis.call('LPOP', key('releasing'))
    if why == ON_FINISH then redis.call('PEXPIRE', key('parts', n), retention + TTL_SLACK) end
  end
end

-- In the order in which they came: a call's records are released as those of a finished one first.
local function release_parts()
  while released < RELEASED_MAX do
    local first = redis.call('LINDEX', key('releasing'), 0)
    if not first then return end
    release_step(unpack(cmsgpack.unpack(first)))
  end
end

local function is_releasing() return redis.call('EXISTS', key('releasing')) == 1 end

local function drop(call)
  local head, n = call.head, call.n
  if not release_later(ON_SWEEP, call) then
    for m in pairs(records_of(call)) do
      if redis.call('HINCRBY', key('output', m), 'r', -1) <= 0 then drop_record(m) end
    end
    if head[PARTS] == true then redis.call('UNLINK', key('parts', n)) end
  end
  if head[IDEMPOTENCY] then drop_idempotency(head[IDEMPOTENCY], n) end
  local bucket = bucket_of(n)
  fields[bucket] = fields[bucket] or {}
  table.insert(fields[bucket], n % BUCKET)
  calls[n] = false
  swept = swept + 1
  highest = math.max(highest, n)
end

-- Drops the calls of one entry, and keeps the rest of it where the limit cuts.
local function sweep_entry(packed, score)
  local numbers, rest = cmsgpack.unpack(packed), {}
  redis.call('ZREM', key('expiries'), packed)
  preload(numbers, 1, 1)
  for _, n in ipairs(numbers) do
    local call = call_of(n)
    if swept == limit then
      rest[#rest + 1] = n
    elseif call and call.status >= COMPLETED and call.head[EXPIRES] <= now then
      drop(call)
    end
  end
  if #rest > 0 then redis.call('ZADD', key('expiries'), score, cmsgpack.pack(rest)) end
end

-- What the floor has passed is unknown, whatever became of it.
local function forget_lost()
  local spans = lost_spans()
  if not spans[1] or spans[2] > counter('floor') then return end
  while spans[1] and spans[2] <= counter('floor') do
    table.remove(spans, 1)
    table.remove(spans, 1)
  end
  redis.call('HSET', key('queue'), 'lost', cmsgpack.pack(spans))
end

local function move_floor()
  local packed = redis.call('HGET', key('queue'), 'marks')
  local marks = packed and cmsgpack.unpack(packed) or {}
  local has_moved = false
  while marks[1] and marks[1][1] + retention <= now do
    set_counter('floor', math.max(counter('floor'), table.remove(marks, 1)[2]))
    has_moved = true
  end
  local last = marks[#marks]
  if highest > 0 and last and last[1] >= now then
    last[2] = math.max(last[2], highest)
  elseif highest > 0 then
    marks[#marks + 1] = { now + math.floor(retention / MARKS), highest }
  end
  if has_moved then forget_lost() end
  if has_moved or highest > 0 then redis.call('HSET', key('queue'), 'marks', cmsgpack.pack(marks)) end
end

local function drop_buckets()
  for bucket, list in pairs(fields) do
    redis.call('HDEL', bucket_key(bucket), unpack(list))
    -- What is left is the count of live calls.
    if redis.call('HLEN', bucket_key(bucket)) == 1 then redis.call('DEL', bucket_key(bucket)) end
  end
  local low, last = counter('low'), bucket_of(counter('call'))
  for _ = 1, 1000 do
    if low >= last or redis.call('EXISTS', bucket_key(low)) == 1 then break end
    low = low + 1
  end
  if low ~= counter('low') then set_counter('low', low) end
end

release_parts()
for _ = 1, is_releasing() and 0 or limit do
  local entry = redis.call('ZRANGEBYSCORE', key('expiries'), '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  if swept == limit or not entry[1] then break end
  sweep_entry(entry[1], entry[2])
end
move_floor()
drop_buckets()
flush_counters()
return { swept, (swept == limit or is_releasing()) and 1 or 0 }
