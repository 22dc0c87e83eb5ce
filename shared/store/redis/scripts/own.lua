#!lua flags=allow-oom
-- Takes or renews the ownership of the function's buffer.
-- owner: hash member, fence, until
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 member; 5 until; 6 fence, where it is not this member's already
-- Result  { fence, calls given so far }, or 0 while another member holds it, or where there is no such function
-- include: base
local known = redis.call('HMGET', key('function'), 'name', 'removed')
if not known[1] or known[2] then return 0 end
local owner = redis.call('HMGET', key('owner'), 'member', 'fence', 'until')
local fence = ARGV[6]
if owner[1] == ARGV[4] then
  fence = owner[2]
elseif owner[1] and tonumber(owner[3]) > now then
  return 0
end
redis.call('HSET', key('owner'), 'member', ARGV[4], 'fence', fence, 'until', ARGV[5])
return { fence, counter('call') }
