#!lua flags=no-writes
-- Pages through all calls of a function, for a migration.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 after this number; 5 buckets looked at, at most; 6 1 where parts are wanted
-- Result  { the number to go on after, or 0 at the end; then for each call: number, value, MessagePack list of state, first
--       row, rows, record, place of each part in row order }
-- include: base
-- include: calls
local after, buckets, with_parts = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local found = { 0 }

local function parts_of(n, raw)
  local _, length = struct.unpack('>BI3I7', raw)
  local parts = cmsgpack.unpack(string.sub(raw, HEAD_AT, HEAD_AT + length - 1))[PARTS]
  local lists, flat = {}, {}
  if parts == true then
    for _, packed in ipairs(redis.call('ZRANGE', key('parts', n), 0, -1)) do lists[#lists + 1] = cmsgpack.unpack(packed) end
  elseif parts then
    for at = 1, #parts, 5 do lists[#lists + 1] = { unpack(parts, at, at + 4) } end
    table.sort(lists, function(a, b) return a[2] < b[2] end)
  end
  for _, part in ipairs(lists) do
    for i = 1, 5 do flat[#flat + 1] = part[i] end
  end
  return cmsgpack.pack(flat)
end

local last = bucket_of(counter('call'))
for bucket = math.max(bucket_of(after), counter('low')), last do
  if buckets == 0 then
    found[1] = bucket * BUCKET - 1
    break
  end
  buckets = buckets - 1
  local entries, values, numbers = redis.call('HGETALL', bucket_key(bucket)), {}, {}
  for i = 1, #entries, 2 do
    local field = tonumber(entries[i])
    local n = field and bucket * BUCKET + field
    if n and n > after then
      values[n] = entries[i + 1]
      numbers[#numbers + 1] = n
    end
  end
  table.sort(numbers)
  for _, n in ipairs(numbers) do
    found[#found + 1] = n
    found[#found + 1] = values[n]
    found[#found + 1] = with_parts and parts_of(n, values[n]) or ''
  end
end
return found
