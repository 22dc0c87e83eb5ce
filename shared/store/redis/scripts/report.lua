#!lua flags=allow-oom
-- Keeps what a worker told of its replicas of a version, and drops what is past its time.
-- reports: hash 'V worker' → MessagePack { until, report (JSON) }
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 version; 5 worker; 6 until; 7 report
-- Result  1
-- include: base
local list = redis.call('HGETALL', key('reports'))
for i = 1, #list, 2 do
  if cmsgpack.unpack(list[i + 1])[1] <= now then redis.call('HDEL', key('reports'), list[i]) end
end
local field = ARGV[4] .. ' ' .. ARGV[5]
if tonumber(ARGV[6]) <= now then
  redis.call('HDEL', key('reports'), field)
else
  redis.call('HSET', key('reports'), field, cmsgpack.pack({ tonumber(ARGV[6]), ARGV[7] }))
end
return 1
