#!lua flags=allow-oom
-- Gives old uploads up, then names objects to delete; they stay named until they are deleted.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 uploads begun before this time are given up; 5 objects at most
-- Result  { reference, … }
-- include: base
-- include: objects
local old = redis.call('ZRANGEBYSCORE', key('uploads'), '-inf', '(' .. ARGV[4], 'LIMIT', 0, ARGV[5])
for _, reference in ipairs(old) do
  if take_object(reference) then drop_object(reference) end
end
return redis.call('SRANDMEMBER', key('unnamed'), ARGV[5])
