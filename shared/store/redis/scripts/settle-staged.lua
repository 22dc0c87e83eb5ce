#!lua flags=allow-oom
-- Ends the wait of a staged version: it becomes current, or it is dropped.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 digest; 5 'activate' or 'drop'; 6 channel to tell
-- Result  1, or 0 where this version is not the staged one
-- include: base
-- include: staged
local known = redis.call('HMGET', key('function'), 'name', 'removed', 'staged')
if not known[1] or known[2] or not known[3] then return 0 end
if redis.call('HGET', key('digests'), ARGV[4]) ~= known[3] then return 0 end
if ARGV[5] == 'activate' then activate(known[3]) else drop_staged() end
redis.call('HSET', key('function'), 'updated', ARGV[2])
redis.call('PUBLISH', ARGV[6], known[1])
return 1
