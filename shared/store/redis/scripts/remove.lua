#!lua flags=allow-oom
-- Removes a function that has no unfinished calls; its finished ones stay readable.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 channel to tell
-- Result  -1 removed, -2 there is no such function, else its unfinished calls
-- include: base
local record = key('function')
local known = redis.call('HMGET', record, 'name', 'removed')
if not known[1] or known[2] then return -2 end
if counter('live_calls') > 0 then return counter('live_calls') end
redis.call('HSET', record, 'removed', ARGV[2], 'updated', ARGV[2])
for _, version in ipairs(redis.call('HKEYS', key('versions'))) do
  redis.call('HSETNX', key('removed-versions'), version, ARGV[2])
end
redis.call('HDEL', record, 'staged', 'staged-new', 'scaling')
redis.call('DEL', key('owner'), key('logs'), key('reports'))
redis.call('PUBLISH', ARGV[4], known[1])
return -1
