#!lua
-- Gives a name to a function number whose slot is laid out, unless the name has one that is not the lost one. Who heard of its
-- deploy (scripts/deploy.lua) could not read it by its name before: it is told again.
-- KEYS  1 generation of the store; 2 functions: hash name → number
-- ARGV  1 the generation that the client opened; 2 name; 3 number, or '' to only take a name away; 4 the number that was
--       lost, or ''; 5 channel to tell
-- Result  the number that the name has now, 0 for none
-- include: store
local known = redis.call('HGET', KEYS[2], ARGV[2])
if known and known ~= ARGV[4] then return tonumber(known) end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[2], ARGV[2])
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[5], ARGV[2])
return tonumber(ARGV[3])
