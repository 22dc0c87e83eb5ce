#!lua flags=no-writes
-- Finds calls, newest first, in a bounded number of buckets; those of numbers that were skipped cost little.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 below this number, or 0: from the newest on; 5 with an arrival below this stamp, or 0; 6 status
--       or -1; 7 API key or -1; 8 calls at most; 9 buckets at most
-- Result  { the number to go on below, or 0 at the end; then for each call: number, value without its payload }
-- include: base
-- include: calls
local below, stamp_below = tonumber(ARGV[4]), tonumber(ARGV[5])
local status, api_key = tonumber(ARGV[6]), tonumber(ARGV[7])
local most, buckets = tonumber(ARGV[8]), tonumber(ARGV[9])
local low, last = counter('low'), counter('call')
if below == 0 or below > last + 1 then below = last + 1 end

-- The arrival of some call of a bucket; nil where it has none.
local function stamp_in(bucket)
  local field = redis.call('HRANDFIELD', bucket_key(bucket), 2)
  local at = field[1] ~= 'l' and field[1] or field[2]
  if not at then return nil end
  local _, _, stamp = struct.unpack('>BI3I7', redis.call('HGET', bucket_key(bucket), at))
  return stamp
end

-- The first bucket of which all calls arrived at the stamp or later: numbers are given in the order of arrival.
local function bucket_after(stamp)
  local from, to = low, bucket_of(last) + 1
  while from < to do
    local middle = math.floor((from + to) / 2)
    local found = stamp_in(middle)
    if found and found >= stamp then to = middle else from = middle + 1 end
  end
  return to
end

if stamp_below > 0 and tonumber(ARGV[4]) == 0 then
  -- The bucket's own calls may lie on both sides of the stamp.
  below = math.min(below, (bucket_after(stamp_below) + 1) * BUCKET)
end

local function matches(raw)
  local is_status, length, stamp = struct.unpack('>BI3I7', raw)
  if stamp_below > 0 and stamp >= stamp_below then return false end
  if status >= 0 and is_status ~= status then return false end
  if api_key < 0 then return true end
  return cmsgpack.unpack(string.sub(raw, HEAD_AT, HEAD_AT + length - 1))[API_KEY] == api_key
end

local found = { 0 }
for bucket = bucket_of(below - 1), low, -1 do
  if buckets <= 0 then
    found[1] = (bucket + 1) * BUCKET
    return found
  end
  local entries = redis.call('HGETALL', bucket_key(bucket))
  buckets = buckets - (#entries > 0 and 1 or 1 / 64)
  local numbers, values = {}, {}
  for i = 1, #entries, 2 do
    local field = tonumber(entries[i])
    if field then
      local n = bucket * BUCKET + field
      if n < below and matches(entries[i + 1]) then
        numbers[#numbers + 1] = n
        values[n] = entries[i + 1]
      end
    end
  end
  table.sort(numbers, function(a, b) return a > b end)
  for _, n in ipairs(numbers) do
    local _, length = struct.unpack('>BI3I7', values[n])
    found[#found + 1] = n
    found[#found + 1] = string.sub(values[n], 1, HEAD_AT + length - 1)
    if (#found - 1) / 2 == most then
      found[1] = n
      return found
    end
  end
end
return found
