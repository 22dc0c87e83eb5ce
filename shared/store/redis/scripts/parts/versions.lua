-- How a version goes, with its BullMQ queue. Its number is given again only after all others were. Follows parts/base.
--   unused: hash version → when nothing of it will be readable any more (scripts/retire.lua)

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
  for _, name in ipairs({ 'versions', 'sources', 'batching', 'facts', 'removed-versions', 'unused', 'told', 'open-batches' }) do
    redis.call('HDEL', key(name), version)
  end
  redis.call('DEL', key('offers', version), key('ready', version))
  drop_queue(tonumber(version))
end
