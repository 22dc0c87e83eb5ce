#!lua flags=allow-oom
-- Cancels the unfinished calls of a span of numbers, in steps: each looks at a bounded number of calls and buckets.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 from this number on; 5 up to this number; 6 calls of a step; 7 buckets of a step at most; 8 from which
--       number on all calls below ARGV[4] were cancelled by the steps before; 9 what the step before told last (MessagePack)
-- Result  { calls, rows that were cancelled, the number to go on from, or 0 at the end, { batch, a live call of it } of
--         batches that lost calls and stay (flat) }
-- include: base
-- include: calls
-- include: batches
-- include: ending
local from, to, most, buckets = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local bucket = math.max(bucket_of(from), counter('low'))
local last = bucket_of(to)
local numbers = {}
while bucket <= last and buckets > 0 and #numbers < most do
  buckets = buckets - 1
  if tonumber(redis.call('HGET', bucket_key(bucket), 'l') or 0) > 0 then
    for _, field in ipairs(redis.call('HKEYS', bucket_key(bucket))) do
      local n = tonumber(field) and bucket * BUCKET + tonumber(field)
      if n and n >= from and n <= to then numbers[#numbers + 1] = n end
    end
  end
  bucket = bucket + 1
end
table.sort(numbers)
preload(numbers, 1, 1)
local cancelled, rows = 0, 0
for _, n in ipairs(numbers) do
  local call = live_call(n)
  if call then
    cancelled = cancelled + 1
    rows = rows + call.head[ROWS] - call.head[SETTLED]
    ended[#ended + 1] = id_of(n)
    finish(call, PART_CANCELLED)
  end
end
ended_from, ended_to = tonumber(ARGV[8]), math.min(bucket * BUCKET - 1, to)
local known = cmsgpack.unpack(ARGV[9])
for i = 1, #known, 2 do witnesses[known[i]] = known[i + 1] end
flush()
local told = {}
for m in pairs(emptied) do
  if witnesses[m] and #told < 2 * most then
    told[#told + 1] = m
    told[#told + 1] = witnesses[m]
  end
end
return { cancelled, rows, bucket <= last and bucket * BUCKET or 0, told }
