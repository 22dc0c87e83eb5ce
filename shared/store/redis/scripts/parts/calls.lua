-- Calls: one packed value each, in buckets (hashes) of 128 neighbours, so that a waiting call of one row costs no key.
--   value = status (1 byte), length of the head (3), arrival by the server's clock in microseconds (7: the order of lists),
--           head (MessagePack, the fields below), payload (only where KIND says that it is inline and the call is live)
-- A head that was never changed ends after IDEMPOTENCY (the others are 0 or false then), one of a live call after PARTS.
-- A bucket's field `l` counts its live calls: a bucket without any gets the TTL of its youngest.
local VERSION, API_KEY, ROWS, BYTES, ARRIVED, DEADLINE, EXTRA, KIND, IDEMPOTENCY = 1, 2, 3, 4, 5, 6, 7, 8, 9
local SEALED, SETTLED, FAILED, EXPIRED, LEASED, STARTED, HANDLER_MS, BATCHES, PARTS = 10, 11, 12, 13, 14, 15, 16, 17, 18
local FINISHED, EXPIRES, CANCELLED, FILL = 19, 20, 21, 22
-- Kinds: 0 JSON, 1 Arrow; 2 and 3 the same in a key of their own (`payload:N`); 4 and 5 the same in the bucket, with the
-- reference (parts/objects) as the payload.
local PENDING, RUNNING, COMPLETED, IS_FAILED, IS_CANCELLED, IS_EXPIRED = 0, 1, 2, 3, 4, 5
local PART_OK, PART_FAILED, PART_CANCELLED, PART_EXPIRED = 0, 1, 2, 3
local HEAD_AT = 12
local BUCKET = 128
-- Parts that a call keeps in its head; more go to a sorted set by first row (`parts:N`).
local PARTS_INLINE = 4

local function bucket_of(n) return math.floor(n / BUCKET) end
local function bucket_key(bucket) return key('calls', string.format('%.0f', bucket)) end

local calls = {}
local changed_calls = {}
local live_changes = {}

local function parse_call(n, raw)
  local status, length, stamp = struct.unpack('>BI3I7', raw)
  local _, head = cmsgpack.unpack_one(raw, HEAD_AT - 1)
  if head[SEALED] == nil then
    head[SEALED], head[SETTLED], head[FAILED], head[EXPIRED], head[HANDLER_MS] = 0, 0, 0, 0, 0
    head[LEASED], head[STARTED], head[BATCHES], head[PARTS] = false, false, false, false
  end
  return { n = n, status = status, stamp = stamp, head = head, raw = raw, payload_at = HEAD_AT + length }
end

-- The call, or false where there is none.
local function call_of(n)
  local call = calls[n]
  if call == nil then
    local raw = redis.call('HGET', bucket_key(bucket_of(n)), n % BUCKET)
    call = raw and parse_call(n, raw)
    calls[n] = call
  end
  return call
end

local function live_call(n)
  local call = call_of(n)
  return call and call.status < COMPLETED and call
end

-- Reads many calls with one command a bucket; their numbers stand at first, first + width, …
local function preload(numbers, first, width)
  local wanted = {}
  for i = first, #numbers, width do
    local n = numbers[i]
    if calls[n] == nil and n > 0 then
      calls[n] = false
      local bucket = bucket_of(n)
      local fields = wanted[bucket]
      if fields == nil then
        wanted[bucket] = { n % BUCKET }
      else
        fields[#fields + 1] = n % BUCKET
      end
    end
  end
  for bucket, fields in pairs(wanted) do
    local values = redis.call('HMGET', bucket_key(bucket), unpack(fields))
    for i, raw in ipairs(values) do
      local n = bucket * BUCKET + fields[i]
      if raw then calls[n] = parse_call(n, raw) end
    end
  end
end

local function touch_call(call) changed_calls[call.n] = call end

local function value_of(call)
  local head = cmsgpack.pack(call.head)
  local payload = call.status < COMPLETED and string.sub(call.raw, call.payload_at) or ''
  return struct.pack('>BI3I7', call.status, #head, call.stamp) .. head .. payload
end

local function flush_calls()
  local writes = {}
  for n, call in pairs(changed_calls) do
    if call.status < COMPLETED then
      call.status = (call.head[LEASED] or call.head[SETTLED] > 0) and RUNNING or PENDING
    end
    local bucket = bucket_of(n)
    local args = writes[bucket]
    if args == nil then
      args = {}
      writes[bucket] = args
    end
    args[#args + 1] = n % BUCKET
    args[#args + 1] = value_of(call)
  end
  for bucket, args in pairs(writes) do redis.call('HSET', bucket_key(bucket), unpack(args)) end
  for bucket, by in pairs(live_changes) do
    local live = redis.call('HINCRBY', bucket_key(bucket), 'l', by)
    if live == 0 then
      redis.call('PEXPIRE', bucket_key(bucket), retention + TTL_SLACK)
    elseif by > 0 and live == by then
      redis.call('PERSIST', bucket_key(bucket))
    end
  end
end

local function change_live(n, by)
  local bucket = bucket_of(n)
  live_changes[bucket] = (live_changes[bucket] or 0) + by
end

-- Entries of waiting calls whose last row was sealed or ended.
local leaving = {}

local function flush_waiting()
  for at = 1, #leaving, 1000 do
    redis.call('XDEL', key('waiting'), unpack(leaving, at, math.min(at + 999, #leaving)))
  end
end

local function stop_waiting(call)
  leaving[#leaving + 1] = string.format('%.0f-0', call.n)
  count('waiting_calls', -1)
end

-- Bytes that the rows without an outcome stand for.
local function open_bytes(head)
  return math.floor(head[BYTES] * (head[ROWS] - head[SETTLED]) / head[ROWS])
end

-- Moves rows from waiting to sealed, in the call and in the counters.
local function take_rows(call, rows)
  local head = call.head
  head[SEALED] = head[SEALED] + rows
  count('waiting_rows', -rows)
  count('sealed_rows', rows)
  if head[SEALED] == head[ROWS] then stop_waiting(call) end
  touch_call(call)
end

-- Gives sealed rows of a call their outcome: in the call and in the counters.
local function settle_rows(call, state, rows)
  local head = call.head
  local before = open_bytes(head)
  head[SETTLED] = head[SETTLED] + rows
  count('open_bytes', open_bytes(head) - before)
  count('sealed_rows', -rows)
  count('ended_' .. state, rows)
  if state == PART_FAILED then head[FAILED] = head[FAILED] + rows end
  if state == PART_EXPIRED then head[EXPIRED] = head[EXPIRED] + rows end
end

local function write_part(n, state, from, rows, record, place)
  redis.call('ZADD', key('parts', n), from, cmsgpack.pack({ state, from, rows, record, place }))
end

local function add_part(call, state, from, rows, record, place)
  local head = call.head
  settle_rows(call, state, rows)
  touch_call(call)
  if head[PARTS] == true then return write_part(call.n, state, from, rows, record, place) end
  local parts = head[PARTS] or {}
  head[PARTS] = parts
  local last = #parts - 4
  if last > 0 and parts[last] == state and parts[last + 1] + parts[last + 2] == from and parts[last + 3] == record then
    -- A run that goes on: the next rows of the same output, or the same error.
    local expected = parts[last + 4]
    if state == PART_OK then expected = expected + parts[last + 2] end
    if expected == place then
      parts[last + 2] = parts[last + 2] + rows
      return
    end
  end
  for _, number in ipairs({ state, from, rows, record, place }) do parts[#parts + 1] = number end
  if #parts <= PARTS_INLINE * 5 then return end
  for at = 1, #parts, 5 do
    write_part(call.n, parts[at], parts[at + 1], parts[at + 2], parts[at + 3], parts[at + 4])
  end
  head[PARTS] = true
end

-- The distinct records (outputs, errors) that a call's parts lie in.
local function records_of(call)
  local records = {}
  local parts = call.head[PARTS]
  if parts == true then
    for _, packed in ipairs(redis.call('ZRANGE', key('parts', call.n), 0, -1)) do
      local part = cmsgpack.unpack(packed)
      if part[1] <= PART_FAILED then records[part[4]] = true end
    end
  elseif parts then
    for at = 1, #parts, 5 do
      if parts[at] <= PART_FAILED then records[parts[at + 3]] = true end
    end
  end
  return records
end

local function expire_record(m)
  redis.call('PEXPIRE', key('output', m), retention + TTL_SLACK)
  redis.call('PEXPIRE', key('bytes', m), retention + TTL_SLACK)
end

-- A call that is finished or swept releases its records. Where it has many parts, the sweep does it step by step:
--   releasing: list of MessagePack { why, call, rank of the next part, record to leave out or 0 }
local ON_FINISH, ON_SWEEP = 0, 1
-- Parts that one script releases: some milliseconds, in which all others wait.
local RELEASED_MAX = 300
local released = 0

-- Whether the call's records are released later; else it is done now.
local function release_later(why, call, record)
  if call.head[PARTS] ~= true then return false end
  released = released + redis.call('ZCARD', key('parts', call.n))
  if released <= RELEASED_MAX then return false end
  redis.call('RPUSH', key('releasing'), cmsgpack.pack({ why, call.n, 0, record or 0 }))
  return true
end
