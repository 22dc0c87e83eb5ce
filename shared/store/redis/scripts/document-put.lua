#!lua
-- Writes a document where it still has the revision that was read. Parts of a large one were set before, with a time to live.
-- document-revisions: hash last (revision given), run (the server's run that gave it)
-- KEYS  1-3 see parts/documents; 4 document-revisions
-- ARGV  1 the generation that the client opened; 2 the revision that was read, '' for none; 3 KIND/KEY; 4 its bytes; 5 JSON;
--       6 name of its parts, or ''; 7 how many
-- Result  the new revision, 0 where it has another one than 2, -1 where its parts are gone
-- include: store
-- include: server
-- include: documents
if (redis.call('HGET', KEYS[3], 'r') or '') ~= ARGV[2] then return 0 end
for part = 0, tonumber(ARGV[7]) - 1 do
  if redis.call('PERSIST', part_key(ARGV[6], part)) == 0 then return -1 end
end
local run, known = server_run(), redis.call('HGET', KEYS[4], 'run')
local is_other_run = run and known and run ~= known
if run and run ~= known then redis.call('HSET', KEYS[4], 'run', run) end
local revision = redis.call('HINCRBY', KEYS[4], 'last', is_other_run and LOST_NUMBERS + 1 or 1)
drop_parts()
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], 'r', revision, 'b', ARGV[4])
if ARGV[6] == '' then redis.call('HSET', KEYS[3], 'v', ARGV[5])
else redis.call('HSET', KEYS[3], 'p', ARGV[6], 'n', ARGV[7]) end
redis.call('ZADD', KEYS[2], 0, ARGV[3])
return revision
