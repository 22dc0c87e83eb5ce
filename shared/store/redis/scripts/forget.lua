#!lua flags=allow-oom
-- Drops the versions of removed functions that no call can name any more, with their BullMQ queues. The function's
-- counters stay, so that the ids of its calls are never given again.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base
-- Result  0 where the function is not removed, 1 where nothing is left of it, 2 where something is
-- include: base
-- include: versions
local removed = redis.call('HGETALL', key('removed-versions'))
for i = 1, #removed, 2 do
  -- One that was staged and dropped never had a call, whatever calls the function has.
  local is_unused = counter('live_calls') == 0 or redis.call('HEXISTS', key('unused'), removed[i]) == 1
  if is_unused and tonumber(removed[i + 1]) + retention <= now then drop_version(removed[i]) end
end
local is_removed = redis.call('HEXISTS', key('function'), 'removed') == 1
if not is_removed then return 0 end
-- Objects that are still to be deleted (parts/objects) are named nowhere else, and calls that are to be swept name some.
if redis.call('EXISTS', key('versions'), key('uploads'), key('unnamed'), key('expiries'), key('releasing')) > 0 then return 2 end
redis.call('DEL', key('function'), key('waiting'), key('retired'))
return 1
