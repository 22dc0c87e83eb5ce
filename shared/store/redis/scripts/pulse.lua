#!lua flags=no-writes
-- What a client looks at once in a while, behind its notifications.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base
-- Result  { name or false, when its record was last changed, how often calls of its moved or false, told (HGETALL: version, slots
--       told last), { version, turns of its oldest and its newest ready batch }, order of the slots told last }
-- include: base
local record = redis.call('HMGET', key('function'), 'name', 'updated', 'moves')
local ready = {}
for _, version in ipairs(redis.call('HKEYS', key('versions'))) do
  local oldest = redis.call('ZRANGE', key('ready', version), 0, 0, 'WITHSCORES')
  if oldest[1] then
    ready[#ready + 1] = tonumber(version)
    ready[#ready + 1] = tonumber(oldest[2])
    ready[#ready + 1] = tonumber(redis.call('ZRANGE', key('ready', version), -1, -1, 'WITHSCORES')[2])
  end
end
return { record[1], record[2], record[3], redis.call('HGETALL', key('told')), ready,
  tonumber(redis.call('HGET', key('queue'), 'told') or 0) }
