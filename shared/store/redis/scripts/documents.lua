#!lua flags=no-writes
-- Names of documents, ascending.
-- KEYS  1 generation of the store; 2 documents
-- ARGV  1 the generation that the client opened; 2 and 3 where to begin and end, as ZRANGE BYLEX takes it; 4 how many at most
-- Result  { KIND/KEY, … }
-- include: store
return redis.call('ZRANGE', KEYS[2], ARGV[2], ARGV[3], 'BYLEX', 'LIMIT', 0, ARGV[4])
