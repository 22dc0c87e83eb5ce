#!lua flags=no-writes
-- Reads a call and a page of its parts, in row order; the outputs are read by the client.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 number; 5 first row; 6 bytes of output at most (one part comes in any case); 7 parts at most
-- Result  { value without payload, MessagePack list of state, first row, rows, record, place of each part, 1 where more
--       follow }, or { why there is no call (parts/absent) }
-- include: base
-- include: calls
-- include: absent
local n, from = tonumber(ARGV[4]), tonumber(ARGV[5])
local bytes_max, parts_max = tonumber(ARGV[6]), tonumber(ARGV[7])
local call = call_of(n)
if not call then return { absent(n) } end

-- The parts that end after row `from`, in order: a list of lists.
local function parts_from()
  local parts, found = call.head[PARTS], {}
  if parts == true then
    local before = redis.call('ZREVRANGEBYSCORE', key('parts', n), '(' .. from, '-inf', 'LIMIT', 0, 1)
    local after = redis.call('ZRANGEBYSCORE', key('parts', n), from, '+inf', 'LIMIT', 0, parts_max + 1)
    for _, list in ipairs({ before, after }) do
      for _, packed in ipairs(list) do found[#found + 1] = cmsgpack.unpack(packed) end
    end
  elseif parts then
    for at = 1, #parts, 5 do found[#found + 1] = { unpack(parts, at, at + 4) } end
    table.sort(found, function(a, b) return a[2] < b[2] end)
  end
  return found
end

-- Bytes of an output; a reference to the bucket (parts/objects) begins with them.
local function size_of(record)
  local inline = redis.call('HSTRLEN', key('output', record), 'o')
  if inline > 0 then return inline end
  local beside = redis.call('HGET', key('output', record), 'b')
  if beside then return tonumber(beside) end
  local reference = redis.call('HGET', key('output', record), 's')
  return reference and tonumber(string.match(reference, '^%d+')) or 0
end

local sizes, bytes, taken, more = {}, 0, {}, 0
for _, part in ipairs(parts_from()) do
  if part[2] + part[3] > from then
    local record = part[4]
    if part[1] == PART_OK and sizes[record] == nil then
      sizes[record] = size_of(record)
      bytes = bytes + sizes[record]
    end
    if #taken > 0 and (bytes > bytes_max or #taken >= parts_max * 5) then
      more = 1
      break
    end
    for i = 1, 5 do taken[#taken + 1] = part[i] end
  end
end
return { string.sub(call.raw, 1, call.payload_at - 1), cmsgpack.pack(taken), more }
