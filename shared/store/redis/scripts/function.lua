#!lua flags=no-writes
-- Reads a function's record and its versions.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base
-- Result  { function, versions, batching, removed-versions }, each as HGETALL (scripts/deploy.lua)
-- include: base
local found = {}
for i, name in ipairs({ 'function', 'versions', 'batching', 'removed-versions' }) do
  found[i] = redis.call('HGETALL', key(name))
end
return found
