#!lua
-- Takes over calls of another store, in the order of their numbers. Those up to the last one taken are left alone, so
-- that a step which was cut off is done again without harm.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 MessagePack list of { number, 1 live | 0, waiting rows, sealed rows, open bytes, deadline or
--       false, idempotency or false, body digest, end of retention or false, { records },
--       reference of its payload (parts/objects) or false };
--       5, 6, 7, … for each call: value (parts/calls), payload of a key of its own or '', MessagePack list of parts of a key
--       of their own or ''
-- Result  how many were taken
-- include: base
-- include: calls
-- include: objects
local facts = cmsgpack.unpack(ARGV[4])
local arrived = tonumber(redis.call('HGET', key('queue'), 'arrived') or 0)
local ending = {}
local taken = 0

local function take_parts(n, packed)
  local parts = cmsgpack.unpack(packed)
  for at = 1, #parts, 5 do
    write_part(n, parts[at], parts[at + 1], parts[at + 2], parts[at + 3], parts[at + 4])
  end
end

local function take_live(n, fact)
  count('live_calls', 1)
  count('sealed_rows', fact[4])
  count('open_bytes', fact[5])
  if fact[3] > 0 then
    count('waiting_rows', fact[3])
    count('waiting_calls', 1)
    redis.call('XADD', key('waiting'), string.format('%.0f-0', n), 'v', '')
  end
  if fact[6] then redis.call('ZADD', key('deadlines'), fact[6], n) end
end

local function take(n, fact, at)
  local is_live, expires = fact[2], fact[9]
  local bucket = bucket_key(bucket_of(n))
  redis.call('HSET', bucket, n % BUCKET, ARGV[at])
  redis.call('HINCRBY', bucket, 'l', is_live)
  if fact[11] then take_object(fact[11]) end
  if ARGV[at + 1] ~= '' then redis.call('SET', key('payload', n), ARGV[at + 1]) end
  if ARGV[at + 2] ~= '' then take_parts(n, ARGV[at + 2]) end
  if is_live == 1 then take_live(n, fact) end
  if fact[7] then
    redis.call('SET', key('idempotency', fact[7]), struct.pack('>BI5', #fact[8], n) .. fact[8])
    if expires then redis.call('PEXPIREAT', key('idempotency', fact[7]), expires + TTL_SLACK) end
  end
  for _, record in ipairs(fact[10]) do
    redis.call('HINCRBY', key('output', record), 'r', 1)
    redis.call('HINCRBY', key('output', record), 'u', is_live)
  end
  if expires then
    ending[expires] = ending[expires] or {}
    table.insert(ending[expires], n)
  end
end

for i, fact in ipairs(facts) do
  local n = fact[1]
  if n > arrived then
    take(n, fact, 2 + i * 3)
    taken = taken + 1
    set_counter('call', math.max(counter('call'), n))
    arrived = n
  end
end
for expires, list in pairs(ending) do redis.call('ZADD', key('expiries'), expires, cmsgpack.pack(list)) end
redis.call('HSET', key('queue'), 'arrived', arrived)
flush_counters()
return taken
