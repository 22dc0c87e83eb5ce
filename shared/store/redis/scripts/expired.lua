#!lua flags=allow-oom
-- Ends what is due: offers, back-offs, leases, deadlines. What a lost lease becomes is decided by the client, so that
-- a first run with lost leases only names them, and a second one brings the decisions.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 leases, calls and retries at most; 5 MessagePack list of decisions: { number, token,
--       outcomes, errors (JSON), parts }; 6 batches that became ready up to this turn and have no job yet are named again;
--       7 leases whose end is not after this time may end
-- Result  MessagePack { { lost: number, token, version, attempts, claims, mode, slices }, leases ended, calls ended,
--       1 where the limit cut, next time or 0, { added }, turn given last }
-- include: base
local decisions = cmsgpack.unpack(ARGV[5])
local may_end_until = tonumber(ARGV[7])

-- When the first of what falls due does so; 0: nothing will.
local function next_time()
  local at = 0
  for _, name in ipairs({ 'offer-ends', 'delayed', 'deadlines', 'lease-ends' }) do
    local first = tonumber(redis.call('ZRANGE', key(name), 0, 0, 'WITHSCORES')[2])
    -- A lease that may not end yet is due so much later.
    if first and name == 'lease-ends' then first = first + now - may_end_until end
    if first and (at == 0 or first < at) then at = first end
  end
  return at
end

-- Nearly every look finds nothing: it ends here, before all that follows is made for it.
if #decisions == 0 then
  local at = next_time()
  local left = redis.call('ZRANGE', key('outbox'), 0, 0, 'WITHSCORES')[2]
  local is_left = left and tonumber(left) <= tonumber(ARGV[6])
  if (at == 0 or at > now) and not is_left then
    return cmsgpack.pack({ {}, 0, 0, 0, at, {}, counter('turn') })
  end
end
-- include: calls
-- include: batches
-- include: ending
local limit = tonumber(ARGV[4])
local lost = {}

local function due(name, at)
  return redis.call('ZRANGEBYSCORE', key(name), '-inf', at or now, 'LIMIT', 0, limit)
end

local function end_offers()
  for _, offer in ipairs(due('offer-ends')) do
    local version, worker = string.match(offer, '^(%d+) (.*)$')
    redis.call('ZREM', key('offer-ends'), offer)
    redis.call('HDEL', key('offers', version), worker)
    slot_versions[tonumber(version)] = true
  end
end

-- Slices (their numbers) of lost leases in one script: some ten microseconds each, in which all others wait.
local LOST_NUMBERS = 30000
local is_lost_cut = false

-- Leases that are over; a batch of which nothing is left ends here.
local function name_lost()
  local looked = 0
  for _, m in ipairs(due('lease-ends', may_end_until)) do
    local batch = batch_of(tonumber(m))
    local lease = redis.call('HGET', key('leases'), m)
    if not batch or not lease then
      redis.call('ZREM', key('lease-ends'), m)
    else
      local fields, slices = batch.fields, {}
      looked = looked + #fields[SLICES]
      if looked > LOST_NUMBERS and #lost > 0 then
        is_lost_cut = true
        return
      end
      preload(fields[SLICES], 1, 3)
      for i = 1, #fields[SLICES], 3 do
        if live_call(fields[SLICES][i]) then
          for j = i, i + 2 do slices[#slices + 1] = fields[SLICES][j] end
        end
      end
      lost[#lost + 1] = {
        batch.m, cmsgpack.unpack(lease)[1], fields[OF_VERSION], fields[ATTEMPTS], fields[CLAIMS], fields[MODE], slices,
      }
    end
  end
end

local function lose(decision)
  local batch = held_batch(decision[1], decision[2])
  local ends = redis.call('ZSCORE', key('lease-ends'), decision[1])
  if not batch or not ends or tonumber(ends) > may_end_until then return 0 end
  local outcomes = decision[3]
  preload(outcomes, 2, 5)
  for i = 1, #outcomes, 5 do
    local call = live_call(outcomes[i + 1])
    if call and call.head[DEADLINE] and call.head[DEADLINE] <= now then
      outcomes[i], outcomes[i + 4] = PART_EXPIRED, 0
    end
  end
  conclude(batch, { outcomes = outcomes, errors = decision[4], parts = decision[5] })
  return 1
end

-- Rows that a worker has finish; all others expire now.
local function expire(call)
  local head = call.head
  ended[#ended + 1] = id_of(call.n)
  local idle, is_held = {}, false
  for _, m in ipairs(head[BATCHES] or {}) do
    if is_leased(m) then is_held = true else idle[#idle + 1] = m end
  end
  if not is_held then return finish(call, PART_EXPIRED) end
  redis.call('ZREM', key('deadlines'), call.n)
  for _, m in ipairs(idle) do
    local batch = batch_of(m)
    local was_ready = batch and stop_ready(batch)
    if batch and shed(batch) and was_ready then make_ready(batch) end
  end
  local from = head[SEALED]
  local rows = head[ROWS] - from
  if rows == 0 then return end
  take_rows(call, rows)
  add_part(call, PART_EXPIRED, from, rows, 0, 0)
  tell_advanced(call)
end

local leases, expired = 0, 0
end_offers()
local woken = wake_delayed(limit)
if #decisions == 0 then name_lost() end
for _, decision in ipairs(decisions) do leases = leases + lose(decision) end
if #lost == 0 then
  for _, n in ipairs(due('deadlines')) do
    local call = live_call(tonumber(n))
    if call then expire(call) else redis.call('ZREM', key('deadlines'), n) end
    expired = expired + 1
  end
end
if #decisions == 0 then
  for _, m in ipairs(redis.call('ZRANGEBYSCORE', key('outbox'), '-inf', ARGV[6], 'LIMIT', 0, limit)) do
    local batch = batch_of(tonumber(m))
    if batch then
      local turn = tonumber(redis.call('ZSCORE', key('outbox'), m))
      for _, number in ipairs({ batch.m, turn, batch.fields[OF_VERSION] }) do added[#added + 1] = number end
    else
      redis.call('ZREM', key('outbox'), m)
    end
  end
end
flush()
local is_cut = (is_lost_cut or woken == limit or leases == limit or expired == limit) and 1 or 0
return cmsgpack.pack({ lost, leases, expired, is_cut, next_time(), added, counter('turn') })
