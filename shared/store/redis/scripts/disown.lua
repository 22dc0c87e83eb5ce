#!lua flags=allow-oom
-- Gives the ownership of the function's buffer up.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 member
-- Result  1, or 0 where it is another's
-- include: base
if redis.call('HGET', key('owner'), 'member') ~= ARGV[4] then return 0 end
return redis.call('DEL', key('owner'))
