-- Batches that are not settled, worker slots, and what is told of them.
--   batches: hash number → MessagePack of the fields below          leases: hash number → MessagePack { token, worker }
--   ready:V: sorted set number → turn (a number for each time that it became ready; the order of leasing)
--   delayed: sorted set number → not before         lease-ends: sorted set number → end of its lease
--   outbox: sorted set number → turn, until the dispatcher has a job for that turn
--   offers:V: hash worker → MessagePack { idle, prefetch }           offer-ends: sorted set 'V worker' → end of the offer
--   told: hash version → the free slots that were told last          open-batches: hash version → how many batches it has
-- SLICES holds call, first row, rows of each slice.
local OF_VERSION, REASON, MODE, ATTEMPTS, CLAIMS, NOT_BEFORE, RUN_MS, SLICES = 1, 2, 3, 4, 5, 6, 7, 8

local batches = {}
local changed_batches = {}
local slot_versions = {}
local told_always = {}
-- What became ready: number, turn, version. The client gives each a job, then tells the workers.
local added = {}

local function batch_of(m)
  local batch = batches[m]
  if batch == nil then
    local packed = redis.call('HGET', key('batches'), m)
    batch = packed and { m = m, fields = cmsgpack.unpack(packed) }
    batches[m] = batch
  end
  return batch
end

local function touch_batch(batch) changed_batches[batch.m] = batch end

local function flush_batches()
  local args = {}
  for m, batch in pairs(changed_batches) do
    args[#args + 1] = m
    args[#args + 1] = cmsgpack.pack(batch.fields)
    if #args >= 200 then
      redis.call('HSET', key('batches'), unpack(args))
      args = {}
    end
  end
  if #args > 0 then redis.call('HSET', key('batches'), unpack(args)) end
end

local function is_leased(m) return redis.call('HEXISTS', key('leases'), m) == 1 end

-- The open batch whose lease has this token, or false.
local function held_batch(m, token)
  local lease = redis.call('HGET', key('leases'), m)
  if not lease or cmsgpack.unpack(lease)[1] ~= token then return false end
  return batch_of(m)
end

local function end_lease(m)
  if redis.call('HDEL', key('leases'), m) == 1 then redis.call('ZREM', key('lease-ends'), m) end
end

-- Notes in the calls of a batch that it holds rows of them, or does not any more.
local function hold(batch)
  local slices = batch.fields[SLICES]
  for i = 1, #slices, 3 do
    local call = live_call(slices[i])
    if call then
      local list = call.head[BATCHES] or {}
      if list[#list] ~= batch.m then list[#list + 1] = batch.m end
      call.head[BATCHES] = list
      touch_call(call)
    end
  end
end

local function let_go(batch)
  local slices = batch.fields[SLICES]
  for i = 1, #slices, 3 do
    local call = live_call(slices[i])
    local list = call and call.head[BATCHES]
    if list then
      local kept = {}
      for _, m in ipairs(list) do if m ~= batch.m then kept[#kept + 1] = m end end
      call.head[BATCHES] = #kept > 0 and kept
      touch_call(call)
    end
  end
end

local function count_open(batch, by)
  local version = batch.fields[OF_VERSION]
  if redis.call('HINCRBY', key('open-batches'), version, by) <= 0 then redis.call('HDEL', key('open-batches'), version) end
end

local function add_batch(fields)
  local batch = { m = next_number('batch'), fields = fields }
  batches[batch.m] = batch
  count_open(batch, 1)
  touch_batch(batch)
  hold(batch)
  return batch
end

-- Puts an open batch where workers find it: at once, or when its back-off is over.
local function make_ready(batch)
  local fields = batch.fields
  if fields[NOT_BEFORE] > now then
    redis.call('ZADD', key('delayed'), fields[NOT_BEFORE], batch.m)
    return
  end
  count('turn', 1)
  local turn = counter('turn')
  redis.call('ZADD', key('ready', fields[OF_VERSION]), turn, batch.m)
  redis.call('ZADD', key('outbox'), turn, batch.m)
  slot_versions[fields[OF_VERSION]] = true
  for _, number in ipairs({ batch.m, turn, fields[OF_VERSION] }) do added[#added + 1] = number end
end

local function stop_ready(batch)
  local version = batch.fields[OF_VERSION]
  if redis.call('ZREM', key('ready', version), batch.m) == 0 then return false end
  redis.call('ZREM', key('outbox'), batch.m)
  slot_versions[version] = true
  return true
end

-- Takes away a batch that no live call names.
local function remove_batch(batch)
  end_lease(batch.m)
  if not stop_ready(batch) then redis.call('ZREM', key('delayed'), batch.m) end
  -- One that was added in this script has not been written yet.
  if redis.call('HDEL', key('batches'), batch.m) == 1 or changed_batches[batch.m] then count_open(batch, -1) end
  batches[batch.m] = false
  changed_batches[batch.m] = nil
end

local function drop_batch(batch)
  let_go(batch)
  remove_batch(batch)
end

-- Makes the batches ready whose back-off is over, at most `limit`; says how many.
local function wake_delayed(limit)
  local due = redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', now, 'LIMIT', 0, limit)
  for _, m in ipairs(due) do
    redis.call('ZREM', key('delayed'), m)
    local batch = batch_of(tonumber(m))
    if batch then make_ready(batch) end
  end
  return #due
end

-- Slots that workers offered, less the batches that already wait for one; idle ones first.
local function free_slots(version)
  local idle, prefetch = 0, 0
  for _, packed in ipairs(redis.call('HVALS', key('offers', version))) do
    local offer = cmsgpack.unpack(packed)
    idle = idle + offer[1]
    prefetch = prefetch + offer[2]
  end
  local ready = redis.call('ZCARD', key('ready', version))
  return math.max(idle - ready, 0), math.max(prefetch - math.max(ready - idle, 0), 0)
end

-- A lease takes a slot of its worker: an idle one, else one that prefetches.
local function take_slot(version, worker)
  local packed = redis.call('HGET', key('offers', version), worker)
  if not packed then return end
  local offer = cmsgpack.unpack(packed)
  local at = offer[1] > 0 and 1 or 2
  if offer[at] == 0 then return end
  offer[at] = offer[at] - 1
  redis.call('HSET', key('offers', version), worker, cmsgpack.pack(offer))
  slot_versions[version] = true
end

-- Messages and answers travel apart: the order in which they were made, by function, says which is the newer.
local told_order = 0

local function tell_slots()
  for version in pairs(slot_versions) do
    local idle, prefetch = free_slots(version)
    local text = idle .. ' ' .. prefetch
    -- Until the first was told, the buffers take it for none.
    local told = redis.call('HGET', key('told'), version) or '0 0'
    if told ~= text or told_always[version] then
      redis.call('HSET', key('told'), version, text)
      told_order = redis.call('HINCRBY', key('queue'), 'told', 1)
      redis.call('PUBLISH', key('to-owner'), 'slots ' .. version_id_of(version) .. ' ' .. text .. ' ' .. told_order)
    end
  end
end
