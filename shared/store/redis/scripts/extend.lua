#!lua flags=allow-oom
-- Moves the end of leases that are held to one lease from now: back as well, where clocks that were wrong have set it far ahead.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 lease, milliseconds; 5, 6, … number, token of each
-- Result  the numbers whose lease is lost
-- include: base
local until_at = now + tonumber(ARGV[4])
local lost = {}
for i = 5, #ARGV, 2 do
  local lease = redis.call('HGET', key('leases'), ARGV[i])
  if lease and cmsgpack.unpack(lease)[1] == ARGV[i + 1] then
    redis.call('ZADD', key('lease-ends'), until_at, ARGV[i])
  else
    lost[#lost + 1] = tonumber(ARGV[i])
  end
end
return lost
