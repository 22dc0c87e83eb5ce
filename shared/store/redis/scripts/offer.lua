#!lua flags=allow-oom
-- Sets the free slots of one worker for one version.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 version; 5 worker; 6 idle; 7 prefetch; 8 until
-- Result  1
-- include: base
-- include: calls
-- include: batches
local version, worker = tonumber(ARGV[4]), ARGV[5]
if not has_version(version) then return no_version(version) end
local idle, prefetch = tonumber(ARGV[6]), tonumber(ARGV[7])
if idle + prefetch == 0 then
  redis.call('HDEL', key('offers', version), worker)
  redis.call('ZREM', key('offer-ends'), version .. ' ' .. worker)
else
  redis.call('HSET', key('offers', version), worker, cmsgpack.pack({ idle, prefetch }))
  redis.call('ZADD', key('offer-ends'), ARGV[8], version .. ' ' .. worker)
end
slot_versions[version] = true
tell_slots()
return 1
