#!lua flags=allow-oom
-- Lets a finished call's result go early.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base (3: what an acknowledged result still stays); 4 number
-- Result  1, or 0 where the call is not finished or not there
-- include: base
-- include: calls
local call = call_of(tonumber(ARGV[4]))
if not call or call.status < COMPLETED then return 0 end
if now + retention < call.head[EXPIRES] then
  call.head[EXPIRES] = now + retention
  touch_call(call)
  flush_calls()
  redis.call('ZADD', key('expiries'), now + retention, cmsgpack.pack({ call.n }))
end
return 1
