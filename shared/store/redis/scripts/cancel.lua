#!lua flags=allow-oom
-- Cancels unfinished calls. A purge names them by its steps: first what waits, then what open batches hold.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 'calls', 'waiting' or 'batches'; 5 no call above this number; 6 calls of a step at most
--       ('waiting'); 7, 8, … the numbers of the calls or batches
-- Result  { calls, rows that were cancelled, 1 where more waits }
-- include: base
-- include: calls
-- include: batches
-- include: ending
local highest = tonumber(ARGV[5])
local numbers, more = {}, 0
if ARGV[4] == 'waiting' then
  local entries = redis.call('XRANGE', key('waiting'), '-', ARGV[5] .. '-0', 'COUNT', ARGV[6])
  for i, entry in ipairs(entries) do numbers[i] = tonumber(string.match(entry[1], '^%d+')) end
  if #entries == tonumber(ARGV[6]) then more = 1 end
elseif ARGV[4] == 'batches' then
  for i = 7, #ARGV do
    local batch = batch_of(tonumber(ARGV[i]))
    local slices = batch and batch.fields[SLICES] or {}
    for j = 1, #slices, 3 do numbers[#numbers + 1] = slices[j] end
  end
else
  for i = 7, #ARGV do numbers[#numbers + 1] = tonumber(ARGV[i]) end
end
preload(numbers, 1, 1)
local cancelled, rows = 0, 0
for _, n in ipairs(numbers) do
  local call = n <= highest and live_call(n)
  if call then
    cancelled = cancelled + 1
    rows = rows + call.head[ROWS] - call.head[SETTLED]
    ended[#ended + 1] = id_of(n)
    finish(call, PART_CANCELLED)
  end
end
flush()
return { cancelled, rows, more }
