#!lua flags=allow-oom
-- Revokes an API key.
-- KEYS  1 generation of the store; 2 api-keys; 3 api-key-hashes
-- ARGV  1 the generation that the client opened; 2 id
-- Result  1, or 0 where there is no such key
-- include: store
if redis.call('HDEL', KEYS[2], ARGV[2]) == 0 then return 0 end
local hashes = redis.call('HGETALL', KEYS[3])
for i = 1, #hashes, 2 do
  if hashes[i + 1] == ARGV[2] then redis.call('HDEL', KEYS[3], hashes[i]) end
end
return 1
