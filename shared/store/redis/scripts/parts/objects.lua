-- Objects of the bucket, by reference (`BYTES KEY`). Each that may exist is named by one of
--   uploads: sorted set reference → when it was begun; a verb that will refer to it is on its way
--   a record: the payload of a call of kind 4 or 5, the field `s` of an output
--   unnamed: set of references; the objects are to be deleted

-- Takes an upload over into a record. False: it was given up meanwhile.
local function take_object(reference) return redis.call('ZREM', key('uploads'), reference) == 1 end

local function drop_object(reference)
  if reference and reference ~= '' then redis.call('SADD', key('unnamed'), reference) end
end
