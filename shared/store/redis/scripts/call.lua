#!lua flags=no-writes
-- Reads calls.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4, 5, … numbers
-- Result  { number given last, of each its value without payload, or why there is none (parts/absent) }
-- include: base
-- include: calls
-- include: absent
local found = { counter('call') }
for i = 4, #ARGV do
  local call = call_of(tonumber(ARGV[i]))
  found[#found + 1] = call and string.sub(call.raw, 1, call.payload_at - 1) or absent(tonumber(ARGV[i]))
end
return found
