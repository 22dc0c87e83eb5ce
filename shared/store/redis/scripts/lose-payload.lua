#!lua flags=allow-oom
-- The bucket has no such object: the call's payload is missing from now on, so that its rows fail at the next lease.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 number; 5 reference (parts/objects)
-- Result  1 where the call still named it
-- include: base
-- include: calls
local call = live_call(tonumber(ARGV[4]))
if not call or call.head[KIND] < 4 or string.sub(call.raw, call.payload_at) ~= ARGV[5] then return 0 end
call.head[KIND] = call.head[KIND] - 2
call.raw = string.sub(call.raw, 1, call.payload_at - 1)
touch_call(call)
flush_calls()
return 1
