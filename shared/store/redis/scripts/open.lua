#!lua flags=no-writes
-- Pages through the waiting calls, in the order of their arrival.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 after this number; 5 entries looked at, at most; 6 version, or 0 for all
-- Result  { the number to go on after, or 0 at the end; then for each call: number, value without its payload }
-- include: base
-- include: calls
local version = tonumber(ARGV[6])
local entries = redis.call('XRANGE', key('waiting'), '(' .. ARGV[4] .. '-0', '+', 'COUNT', ARGV[5])
local numbers = {}
for i, entry in ipairs(entries) do numbers[i] = tonumber(string.match(entry[1], '^%d+')) end
local found = { #entries == tonumber(ARGV[5]) and numbers[#numbers] or 0 }

local function show(n, raw)
  local status, length = struct.unpack('>BI3', raw)
  local head_end = HEAD_AT + length - 1
  if status >= COMPLETED then return end
  if version > 0 and cmsgpack.unpack(string.sub(raw, HEAD_AT, head_end))[VERSION] ~= version then return end
  found[#found + 1] = n
  found[#found + 1] = string.sub(raw, 1, head_end)
end

-- Neighbours lie in one bucket.
local at = 1
while at <= #numbers do
  local bucket, fields = bucket_of(numbers[at]), {}
  while numbers[at] and bucket_of(numbers[at]) == bucket do
    fields[#fields + 1] = numbers[at] % BUCKET
    at = at + 1
  end
  local values = redis.call('HMGET', bucket_key(bucket), unpack(fields))
  for i, raw in ipairs(values) do if raw then show(bucket * BUCKET + fields[i], raw) end end
end
return found
