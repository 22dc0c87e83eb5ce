#!lua flags=allow-oom
-- Gives batches to a worker: those that the dispatcher names, else the oldest that are ready.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 version; 5 worker; 6 lease, milliseconds; 7 batches at most; 8 tokens begin with this;
--       9 MessagePack list of number, turn of the dispatcher's jobs (none: the oldest that have no job yet), or '' to take
--       the oldest; 10 up to this turn a batch is taken for one without a job
-- Result  { MessagePack { { added }, { numbers of what one script more must look at } }, then for each batch: MessagePack { number, token, attempts, claims, mode, reason,
--       until, slices, numbers of its calls }, { value of each call (parts/calls) } }
-- include: base
-- include: calls
-- include: batches
-- include: ending
local version, worker, until_at = tonumber(ARGV[4]), ARGV[5], now + tonumber(ARGV[6])
local most = tonumber(ARGV[7])
if not has_version(version) then return no_version(version) end
wake_delayed(100)

-- The ready batches to look at, oldest first.
local function candidates()
  if ARGV[9] == '' then return redis.call('ZRANGE', key('ready', version), 0, most * 4 + 15) end
  local jobs, wanted = cmsgpack.unpack(ARGV[9]), {}
  if #jobs == 0 then
    local ready, overdue = redis.call('ZRANGE', key('ready', version), 0, most * 4 + 15, 'WITHSCORES'), tonumber(ARGV[10])
    for i = 1, #ready, 2 do
      if tonumber(ready[i + 1]) <= overdue or redis.call('ZSCORE', key('outbox'), ready[i]) then
        wanted[#wanted + 1] = ready[i]
      end
    end
  end
  for i = 1, #jobs, 2 do
    -- A job of another turn is a repeat, or late.
    if tonumber(redis.call('ZSCORE', key('ready', version), jobs[i]) or 0) == jobs[i + 1] then
      wanted[#wanted + 1] = jobs[i]
    end
  end
  return wanted
end

local function missing_payload(call)
  local kind = call.head[KIND]
  if kind < 2 or kind >= 4 or redis.call('EXISTS', key('payload', call.n)) == 1 then return false end
  return '{"code":"internal","message":"the payload of the call is not there"}'
end

local function describe(batch, token)
  local fields = batch.fields
  local slices, seen, numbers, values = fields[SLICES], {}, {}, {}
  for i = 1, #slices, 3 do
    local call = live_call(slices[i])
    if not seen[call.n] then
      seen[call.n] = true
      numbers[#numbers + 1] = call.n
      values[#values + 1] = call.raw
      if not call.head[LEASED] then
        call.head[LEASED] = now
        touch_call(call)
      end
    end
  end
  return cmsgpack.pack({
    batch.m, token, fields[ATTEMPTS], fields[CLAIMS], fields[MODE], fields[REASON], until_at, slices, numbers,
  }), values
end

-- Slices in one script, unless its first batch has more: some tens of milliseconds, in which all others wait.
local SLICES_MAX = 2000

local leased, rest = { '' }, {}
local given, slices = 0, 0
for _, m in ipairs(candidates()) do
  if given == most then break end
  local batch = batch_of(tonumber(m))
  slices = slices + (batch and #batch.fields[SLICES] / 3 or 0)
  if given > 0 and slices > SLICES_MAX then
    rest[#rest + 1] = tonumber(m)
  elseif batch and stop_ready(batch) and shed(batch, missing_payload) then
    given = given + 1
    local token = ARGV[8] .. '.' .. given
    redis.call('HSET', key('leases'), batch.m, cmsgpack.pack({ token, worker }))
    redis.call('ZADD', key('lease-ends'), until_at, batch.m)
    take_slot(version, worker)
    leased[#leased + 1], leased[#leased + 2] = describe(batch, token)
  end
end
flush()
leased[1] = cmsgpack.pack({ added, rest })
return leased
