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
preload(numbers, 1, 1)
local found = { #entries == tonumber(ARGV[5]) and numbers[#numbers] or 0 }
for _, n in ipairs(numbers) do
  local call = live_call(n)
  if call and (version == 0 or call.head[VERSION] == version) then
    found[#found + 1] = n
    found[#found + 1] = string.sub(call.raw, 1, call.payload_at - 1)
  end
end
return found
