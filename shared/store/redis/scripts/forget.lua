#!lua flags=allow-oom
-- Drops the versions of removed functions that no call can name any more, with their BullMQ queues. The function's
-- counters stay, so that the ids of its calls are never given again.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base
-- Result  0 where the function is not removed, 1 where nothing is left of it, 2 where something is
-- include: base
-- What BullMQ keeps of a queue that is idle, beside its jobs.
local QUEUE = { 'meta', 'id', 'events', 'marker', 'pc', 'stalled', 'stalled-check', 'limiter', 'completed', 'failed', 'delayed' }

local function drop_queue(version)
  local queue = key('bull', 'v' .. version_id_of(version))
  for _, list in ipairs({ 'wait', 'active', 'paused' }) do
    for _, job in ipairs(redis.call('LRANGE', queue .. ':' .. list, 0, -1)) do
      redis.call('UNLINK', queue .. ':' .. job, queue .. ':' .. job .. ':lock')
    end
    redis.call('UNLINK', queue .. ':' .. list)
  end
  for _, name in ipairs(QUEUE) do redis.call('UNLINK', queue .. ':' .. name) end
end

local function drop_version(version)
  local packed = redis.call('HGET', key('versions'), version)
  if packed then redis.call('HDEL', key('digests'), cmsgpack.unpack(packed)[1]) end
  for _, name in ipairs({ 'versions', 'sources', 'batching', 'facts', 'removed-versions', 'told', 'open-batches' }) do
    redis.call('HDEL', key(name), version)
  end
  redis.call('DEL', key('offers', version), key('ready', version))
  drop_queue(tonumber(version))
end

local removed = redis.call('HGETALL', key('removed-versions'))
if counter('live_calls') == 0 then
  for i = 1, #removed, 2 do
    if tonumber(removed[i + 1]) + retention <= now then drop_version(removed[i]) end
  end
end
local is_removed = redis.call('HEXISTS', key('function'), 'removed') == 1
if not is_removed then return 0 end
-- Objects that are still to be deleted (parts/objects) are named nowhere else, and calls that are to be swept name some.
if redis.call('EXISTS', key('versions'), key('uploads'), key('unnamed'), key('expiries')) > 0 then return 2 end
redis.call('DEL', key('function'), key('waiting'))
return 1
