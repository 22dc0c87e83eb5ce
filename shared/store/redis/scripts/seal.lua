#!lua flags=allow-oom
-- Makes batches, each of those of its slices that may still be sealed.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 version; 5 fence of the buffer's ownership; 6 MessagePack list of what becomes a batch each:
--       { reason, { call (0: of another function), first row, rows of each slice } }
-- Result  MessagePack { fenced 0|1, idle, prefetch, order in which these slots were told, 0 where they were not, { added },
--       { batch or 0, { positions of refused slices, from 0 } } for each, none where it was fenced }
-- include: base
-- include: calls
-- include: batches
local version, wanted = tonumber(ARGV[4]), cmsgpack.unpack(ARGV[6])
if not has_version(version) then return no_version(version) end
if redis.call('HGET', key('owner'), 'fence') ~= ARGV[5] then
  local idle, prefetch = free_slots(version)
  return cmsgpack.pack({ 1, idle, prefetch, 0, {}, {} })
end
for _, one in ipairs(wanted) do preload(one[2], 1, 3) end

local is_paused = redis.call('HGET', key('function'), 'paused') == '1'

-- Only the head of the waiting tail may be sealed, nothing that is past its deadline, and nothing of a function that is
-- paused, which its buffer hears a moment later.
local function is_sealable(call, from, rows)
  if not call or is_paused then return false end
  local head = call.head
  return head[VERSION] == version and head[SEALED] == from and rows > 0 and from + rows <= head[ROWS]
    and not (head[DEADLINE] and head[DEADLINE] <= now)
end

local function seal(reason, slices)
  local accepted, refused = {}, {}
  for i = 1, #slices, 3 do
    local n, from, rows = slices[i], slices[i + 1], slices[i + 2]
    local call = n > 0 and live_call(n)
    if is_sealable(call, from, rows) then
      take_rows(call, rows)
      for j = i, i + 2 do accepted[#accepted + 1] = slices[j] end
    else
      refused[#refused + 1] = (i - 1) / 3
    end
  end
  if #accepted == 0 then return { 0, refused } end
  local batch = add_batch({ version, reason, 0, 0, 0, 0, 0, accepted })
  make_ready(batch)
  -- Every seal tells its slots, so that a buffer which counts its seals in flight needs no other source.
  told_always[version] = true
  return { batch.m, refused }
end

local sealed = {}
for i, one in ipairs(wanted) do sealed[i] = seal(one[1], one[2]) end
flush_calls()
flush_waiting()
flush_batches()
flush_counters()
tell_slots()
local idle, prefetch = free_slots(version)
return cmsgpack.pack({ 0, idle, prefetch, told_order, added, sealed })
