-- Staged versions: `staged` of the function's record is one that waits to become current; `staged-new` says that it was
-- registered for that, so that it goes when its wait ends otherwise. Follows parts/base.

local function drop_staged()
  local staged = redis.call('HMGET', key('function'), 'staged', 'staged-new')
  if not staged[1] then return end
  if staged[2] == '1' then
    redis.call('HSET', key('removed-versions'), staged[1], now)
    redis.call('HSET', key('unused'), staged[1], now)
  end
  redis.call('HDEL', key('function'), 'staged', 'staged-new')
end

local function activate(version)
  redis.call('HSET', key('function'), 'current', version)
  redis.call('HDEL', key('function'), 'staged', 'staged-new')
end

-- is_new: 1 where the deploy registered it. One that waits already goes on waiting.
local function stage(version, is_staged, is_new)
  local known = redis.call('HMGET', key('function'), 'current', 'staged', 'removed')
  local is_other = known[1] and not known[3] and known[1] ~= version
  if known[2] ~= version then drop_staged() end
  if not (is_staged and is_other) then activate(version)
  elseif known[2] ~= version then redis.call('HSET', key('function'), 'staged', version, 'staged-new', is_new) end
end
