#!lua flags=no-writes
-- Pages through the waiting calls and says which versions they belong to.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 after this number; 5 entries looked at, at most
-- Result  { the number to go on after, or 0 at the end; version, … }
-- include: base
-- include: calls
local entries = redis.call('XRANGE', key('waiting'), '(' .. ARGV[4] .. '-0', '+', 'COUNT', ARGV[5])
local numbers = {}
for i, entry in ipairs(entries) do numbers[i] = tonumber(string.match(entry[1], '^%d+')) end
preload(numbers, 1, 1)
local found, seen = { #entries == tonumber(ARGV[5]) and numbers[#numbers] or 0 }, {}
for _, n in ipairs(numbers) do
  local call = live_call(n)
  local version = call and call.head[VERSION]
  if version and not seen[version] then
    seen[version] = true
    found[#found + 1] = version
  end
end
return found
