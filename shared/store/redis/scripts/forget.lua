#!lua flags=allow-oom
-- Drops the versions of removed functions that no call can name any more. The function's counters stay, so that the ids
-- of its calls are never given again.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base
-- Result  1 where nothing is left of the function
-- include: base
for version, at in pairs((function()
  local found, list = {}, redis.call('HGETALL', key('removed-versions'))
  for i = 1, #list, 2 do found[list[i]] = tonumber(list[i + 1]) end
  return found
end)()) do
  if at + retention <= now and counter('live_calls') == 0 then
    local packed = redis.call('HGET', key('versions'), version)
    if packed then redis.call('HDEL', key('digests'), cmsgpack.unpack(packed)[1]) end
    for _, name in ipairs({ 'versions', 'batching', 'facts', 'removed-versions', 'told' }) do
      redis.call('HDEL', key(name), version)
    end
    redis.call('DEL', key('offers', version), key('ready', version))
  end
end
local is_removed = redis.call('HEXISTS', key('function'), 'removed') == 1
if not is_removed or redis.call('EXISTS', key('versions')) == 1 then return 0 end
redis.call('DEL', key('reports'), key('logs'))
return 1
