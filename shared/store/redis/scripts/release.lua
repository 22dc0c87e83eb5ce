#!lua flags=allow-oom
-- Takes a batch back at no cost.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 number; 5 token
-- Result  MessagePack { 1, or 0 where the lease is lost; { added } }
-- include: base
-- include: calls
-- include: batches
-- include: ending
local batch = held_batch(tonumber(ARGV[4]), ARGV[5])
if not batch then return cmsgpack.pack({ 0, {} }) end
end_lease(batch.m)
if shed(batch) then make_ready(batch) end
flush()
return cmsgpack.pack({ 1, added })
