#!lua flags=allow-oom
-- Joins the buffer processes, or stays among them.
-- KEYS  1 generation of the store; 2 members: sorted set member → until
-- ARGV  1 the generation that the client opened; 2 now; 3 member; 4 until
-- Result  the members
-- include: store
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
return redis.call('ZRANGE', KEYS[2], 0, -1)
