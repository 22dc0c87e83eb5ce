#!lua
-- Names an uploaded output by its record. It may be done again with another upload: the one before is dropped.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 record; 5 reference (parts/objects)
-- Result  1, or 0 where the upload was given up
-- include: base
-- include: objects
if not take_object(ARGV[5]) then return 0 end
drop_object(redis.call('HGET', key('output', ARGV[4]), 's'))
redis.call('HSET', key('output', ARGV[4]), 's', ARGV[5])
return 1
