#!lua flags=allow-oom
-- Notes that an object is about to be written. What finishes work may exceed the memory.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 reference (parts/objects)
-- Result  1
-- include: base
redis.call('ZADD', key('uploads'), now, ARGV[4])
return 1
