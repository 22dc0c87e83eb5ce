#!lua flags=allow-oom
-- Removes a document where it still has the revision that was read.
-- KEYS  1-3 see parts/documents
-- ARGV  1 the generation that the client opened; 2 revision; 3 KIND/KEY
-- Result  1, or 0 where it has another revision or is not there
-- include: store
-- include: documents
if redis.call('HGET', KEYS[3], 'r') ~= ARGV[2] then return 0 end
drop_parts()
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[3])
return 1
