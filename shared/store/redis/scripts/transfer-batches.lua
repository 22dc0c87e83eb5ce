#!lua
-- Takes over sealed batches of another store whose calls are here. One that is here already is left alone.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 MessagePack list of { number, { fields (parts/batches) } }
-- Result  how many were taken
-- include: base
-- include: calls
-- include: batches
local taken = 0
for _, given in ipairs(cmsgpack.unpack(ARGV[4])) do
  local m, fields = given[1], given[2]
  if not batch_of(m) then
    preload(fields[SLICES], 1, 3)
    local batch = { m = m, fields = fields }
    batches[m] = batch
    touch_batch(batch)
    count_open(batch, 1)
    hold(batch)
    make_ready(batch)
    taken = taken + 1
  end
end
flush_calls()
flush_batches()
flush_counters()
return taken
