#!lua
-- Admits calls of one function, in order, each with its idempotency key or not at all.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 unfinished rows and 5 their bytes at most; 6 the function's name; 7 1 where disks are waited for, else 0;
--       8 MessagePack list, for each call: version, rows, bytes, deadline or false, idempotency ('KEY_ID:KEY') or false,
--       body digest or false, kind, 1 where its payload was set aside just before, else 0;
--       9, 10, … for each call: head (parts/calls), payload, or a reference to it (parts/objects), or the name under which it
--       was set aside (`aside:NAME`)
-- Result  MessagePack list, for each call: code, a, b
--       0 admitted: number, status; 1 attached: number, status; 2 the key has another body; 3 too many rows: those that
--       wait, those in batches; 4 too many bytes: those of unfinished rows; 5 there is no such version;
--       6 the upload of its payload was given up; 7 what was set aside is not there
-- include: base
-- include: calls
-- include: batches
-- include: ending
local rows_max, bytes_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local waits_for_disks = ARGV[7] == '1'
local facts = cmsgpack.unpack(ARGV[8])
local time = redis.call('TIME')
local stamp = tonumber(time[1]) * 1000000 + tonumber(time[2])
local named = redis.call('HMGET', key('function'), 'name', 'removed', 'current')
local is_there = named[1] == ARGV[6] and not named[2]
local versions = {}
local answers = {}
local writes = {}
local has_waiting = false

local function answer(code, a, b)
  local at = #answers
  answers[at + 1], answers[at + 2], answers[at + 3] = code, a, b
end

local function write(n, value)
  local bucket = bucket_of(n)
  local args = writes[bucket]
  if args == nil then
    args = {}
    writes[bucket] = args
  end
  args[#args + 1] = n % BUCKET
  args[#args + 1] = value
end

local function flush_writes()
  for bucket, args in pairs(writes) do redis.call('HSET', bucket_key(bucket), unpack(args)) end
  writes = {}
end

-- The call that the idempotency key names.
local function attached(idempotency, digest)
  local name = key('idempotency', idempotency)
  local known = redis.call('GET', name)
  if not known then return false end
  local digest_length, n = struct.unpack('>BI5', known)
  if string.sub(known, 7, 6 + digest_length) ~= digest then
    answer(2, 0, 0)
    return true
  end
  -- WAITAOF waits for the last write of its own connection: after this one, it has waited for the call that is attached to.
  if waits_for_disks then redis.call('SET', name, known, 'KEEPTTL') end
  flush_writes()
  local call = call_of(n)
  answer(1, n, call and call.status or COMPLETED)
  return true
end

-- The payload of a call goes to a key of its own.
local function keep_payload(n, payload, aside)
  if not aside then
    redis.call('SET', key('payload', n), payload)
    return
  end
  redis.call('RENAME', aside, key('payload', n))
  redis.call('PERSIST', key('payload', n))
end

local function admit(at, head, payload, aside)
  local version, rows, bytes, deadline = facts[at], facts[at + 1], facts[at + 2], facts[at + 3]
  local idempotency, digest, kind = facts[at + 4], facts[at + 5], facts[at + 6]
  if versions[version] == nil then
    versions[version] = is_there and has_version(version)
    -- A caller that knew the version before: what was found unused (scripts/retire.lua) is not.
    if named[3] ~= tostring(version) then redis.call('HDEL', key('unused'), version) end
  end
  if not versions[version] then return answer(5, 0, 0) end
  if idempotency and attached(idempotency, digest) then return end
  if counter('waiting_rows') + counter('sealed_rows') + rows > rows_max then
    return answer(3, counter('waiting_rows'), counter('sealed_rows'))
  end
  if counter('open_bytes') + bytes > bytes_max then return answer(4, counter('open_bytes'), 0) end
  if kind >= 4 and not take_object(payload) then return answer(6, 0, 0) end
  if aside and redis.call('EXISTS', aside) == 0 then return answer(7, 0, 0) end
  local n = next_number('call')
  if idempotency then
    redis.call('SET', key('idempotency', idempotency), struct.pack('>BI5', #digest, n) .. digest)
  end
  local value = struct.pack('>BI3I7', PENDING, #head, stamp) .. head
  count('live_calls', 1)
  change_live(n, 1)
  if rows == 0 then
    calls[n] = parse_call(n, value)
    finish(calls[n], PART_CANCELLED)
    return answer(0, n, COMPLETED)
  end
  if kind == 2 or kind == 3 then keep_payload(n, payload, aside) else value = value .. payload end
  write(n, value)
  redis.call('XADD', key('waiting'), string.format('%.0f-0', n), 'v', '')
  if deadline then redis.call('ZADD', key('deadlines'), deadline, n) end
  has_waiting = true
  count('waiting_calls', 1)
  count('waiting_rows', rows)
  count('open_bytes', bytes)
  answer(0, n, PENDING)
end

for at = 1, #facts, 8 do
  local argument = 9 + (at - 1) / 8 * 2
  local aside = facts[at + 7] == 1 and key('aside', ARGV[argument + 1])
  admit(at, ARGV[argument], ARGV[argument + 1], aside)
  -- Of a call that was refused, or attached to another.
  if aside then redis.call('UNLINK', aside) end
end
flush_writes()
flush()
if has_waiting then redis.call('PUBLISH', key('to-owner'), 'waiting') end
return cmsgpack.pack(answers)
