#!lua flags=no-writes
-- Reads calls.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4, 5, … numbers
-- Result  { number given last, floor (missing calls above it are gone), value without payload or false of each }
-- include: base
-- include: calls
local found = { counter('call'), counter('floor') }
for i = 4, #ARGV do
  local call = call_of(tonumber(ARGV[i]))
  found[#found + 1] = call and string.sub(call.raw, 1, call.payload_at - 1)
end
return found
