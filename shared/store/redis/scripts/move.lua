#!lua flags=allow-oom
-- Moves waiting calls from one version to another; what is sealed stays where it is.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 from version; 5 to version; 6 after this number; 7 no call above this number; 8 calls
--       looked at, at most
-- Result  { calls that moved, the number to go on after, or 0 at the end }
-- include: base
-- include: calls
local from, to = tonumber(ARGV[4]), tonumber(ARGV[5])
if not has_version(to) then return no_version(to) end
redis.call('HDEL', key('unused'), to)
local entries = redis.call('XRANGE', key('waiting'), '(' .. ARGV[6] .. '-0', ARGV[7] .. '-0', 'COUNT', ARGV[8])
local numbers, moved = {}, { 'moved' }
for i, entry in ipairs(entries) do numbers[i] = tonumber(string.match(entry[1], '^%d+')) end
preload(numbers, 1, 1)
for _, n in ipairs(numbers) do
  local call = live_call(n)
  if call and call.head[VERSION] == from then
    call.head[VERSION] = to
    touch_call(call)
    moved[#moved + 1] = id_of(n)
  end
end
flush_calls()
if #moved > 1 then
  -- Behind the message, which may be lost.
  redis.call('HINCRBY', key('function'), 'moves', 1)
  redis.call('PUBLISH', key('to-owner'), table.concat(moved, ' '))
end
return { #moved - 1, #entries == tonumber(ARGV[8]) and numbers[#numbers] or 0 }
