#!lua flags=allow-oom
-- API keys. Also at the memory's limit: no request is answered whose key cannot be read.
-- KEYS  1 generation of the store; 2 api-key-count; 3 api-keys: hash id → JSON; 4 api-key-hashes: hash secret hash → id
-- ARGV  1 the generation that the client opened; 2 'create': 3 JSON without the id, 4 secret hash → the id
--       'find': 3 secret hash → { id, JSON } or false          'list' → { id, JSON, … }
-- include: store
local verb = ARGV[2]
if verb == 'create' then
  local id = redis.call('INCR', KEYS[2])
  redis.call('HSET', KEYS[3], id, ARGV[3])
  redis.call('HSET', KEYS[4], ARGV[4], id)
  return id
elseif verb == 'find' then
  local id = redis.call('HGET', KEYS[4], ARGV[3])
  return id and { tonumber(id), redis.call('HGET', KEYS[3], id) }
end
local found = redis.call('HGETALL', KEYS[3])
for i = 1, #found, 2 do found[i] = tonumber(found[i]) end
return found
