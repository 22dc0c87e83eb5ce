-- How a version goes, with its BullMQ queue. Its number is given again only after all others were, and a day later. Follows parts/base.
--   unused: hash version → when nothing of it will be readable any more, noted when it had no unfinished calls; or the look
--       (scripts/retire.lua) that will note it. Whatever gives it calls, or makes it current, takes the note away.
--   retired: hash number of a version that went → when. Processes know versions by their numbers (replicas that serve one, windows
--       of its rows, what readers keep of it), and hear late that one went; until all have, its number means nothing else.

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

local QUIET_MS = 86400000

-- Numbers of versions that went long ago may be given again.
local function free_numbers()
  local retired = redis.call('HGETALL', key('retired'))
  for i = 1, #retired, 2 do
    if tonumber(retired[i + 1]) + QUIET_MS <= now then redis.call('HDEL', key('retired'), retired[i]) end
  end
end

local function drop_version(version)
  local packed = redis.call('HGET', key('versions'), version)
  if packed then redis.call('HDEL', key('digests'), cmsgpack.unpack(packed)[1]) end
  for _, name in ipairs({ 'versions', 'sources', 'batching', 'facts', 'removed-versions', 'unused', 'told', 'open-batches' }) do
    redis.call('HDEL', key(name), version)
  end
  redis.call('DEL', key('offers', version), key('ready', version))
  redis.call('HSET', key('retired'), version, now)
  drop_queue(tonumber(version))
end
