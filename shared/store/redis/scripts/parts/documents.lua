-- Documents lie in the slot that belongs to no function, so that one script changes a document with its index.
-- KEYS  1 generation of the store; 2 documents: sorted set of `KIND/KEY`, all with the score 0; 3 document:KIND/KEY: hash
--       r (revision), b (bytes), v (JSON), or where that is large p and n: the texts document-part:P:0 to document-part:P:n-1
-- Follows parts/store.

local function part_key(name, part)
  return string.sub(KEYS[1], 1, -#'generation' - 1) .. 'document-part:' .. name .. ':' .. part
end

local function drop_parts()
  local known = redis.call('HMGET', KEYS[3], 'p', 'n')
  if not known[1] then return end
  for part = 0, tonumber(known[2]) - 1 do redis.call('UNLINK', part_key(known[1], part)) end
end
