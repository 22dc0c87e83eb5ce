#!lua flags=allow-oom
-- Pauses or resumes a function, or changes its scaling, or the batching of its current version.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 paused 0 or 1, or ''; 5 the version's batching as it was read, and 6 as it shall be, or both '';
--       7 its version; 8 channel to tell; 9 scaling (JSON) or ''
-- Result  1, 0 where there is no such function, 2 where another changed it meanwhile
-- include: base
local record = key('function')
local known = redis.call('HMGET', record, 'name', 'removed', 'current')
if not known[1] or known[2] then return 0 end
if ARGV[6] ~= '' then
  if known[3] ~= ARGV[7] or redis.call('HGET', key('batching'), ARGV[7]) ~= ARGV[5] then return 2 end
  redis.call('HSET', key('batching'), ARGV[7], ARGV[6])
end
if ARGV[4] ~= '' then redis.call('HSET', record, 'paused', ARGV[4]) end
if ARGV[9] ~= '' then redis.call('HSET', record, 'scaling', ARGV[9]) end
redis.call('HSET', record, 'updated', ARGV[2])
redis.call('PUBLISH', ARGV[8], known[1])
return 1
