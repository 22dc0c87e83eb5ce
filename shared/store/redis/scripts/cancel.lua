#!lua flags=allow-oom
-- Cancels the unfinished calls of a span of numbers, in steps: each looks at a bounded number of calls and buckets.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 from this number on; 5 up to this number; 6 calls of a step; 7 buckets of a step at most
-- Result  { calls, rows that were cancelled, the number to go on from, or 0 at the end }
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
flush()
return { cancelled, rows, bucket <= last and bucket * BUCKET or 0 }
