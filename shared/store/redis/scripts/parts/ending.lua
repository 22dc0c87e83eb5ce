-- How rows get their outcomes and calls end. Settling, lost leases and passed deadlines all end in `conclude`.
--   output:M: hash, `o` the output, or `b` its bytes' count (they lie in bytes:M), or `s` a reference to it (parts/objects);
--       `e` the errors (JSON array), `r` calls that refer to it, `u` those unfinished; `r7`, `u7`: call 7 is none of these any more
--   expiries: sorted set, MessagePack list of calls that finished together → when their results go
-- A batch's outcomes lie in the record of its own number; a part that settles while the rest keeps the batch's number
-- gets another, so that a number never means two outputs.
-- include: objects
local ended = {}
-- Calls that go on and calls that are finished, and the record of the output that was kept last: what `to-calls` tells.
local advanced = {}
local finished_ids = {}
local told_record
-- What of these is told when all is written: a message that the server refuses ends the script. { ids, what it begins with }
local news = {}
local expiring = {}
local emptied = {}
-- All calls from this number up to that one are known to have ended.
local ended_from, ended_to = 1, 0
-- A call for each batch that was live in it when somebody last looked.
local witnesses = {}

local function tell_advanced(call) advanced[#advanced + 1] = id_of(call.n) end

local function status_of_end(head)
  if head[CANCELLED] > 0 then return IS_CANCELLED end
  if head[EXPIRED] > 0 then return IS_EXPIRED end
  return head[FAILED] > 0 and IS_FAILED or COMPLETED
end

-- Ends a call: rows without an outcome are cancelled or expired. `record`: its reference is counted by the caller.
local function finish(call, fill, record)
  local head = call.head
  local open = head[ROWS] - head[SETTLED]
  local waiting = head[ROWS] - head[SEALED]
  head[FINISHED], head[EXPIRES], head[CANCELLED], head[FILL] = now, now + retention, 0, fill
  if fill == PART_CANCELLED then head[CANCELLED] = open else head[EXPIRED] = head[EXPIRED] + open end
  call.status = status_of_end(head)
  count('live_calls', -1)
  count('sealed_rows', head[SETTLED] - head[SEALED])
  count('ended_' .. fill, open)
  if open > 0 then count('open_bytes', -open_bytes(head)) end
  if waiting > 0 then
    count('waiting_rows', -waiting)
    stop_waiting(call)
  end
  if head[DEADLINE] then redis.call('ZREM', key('deadlines'), call.n) end
  if head[KIND] >= 4 then
    drop_object(string.sub(call.raw, call.payload_at))
  elseif head[KIND] >= 2 then
    redis.call('UNLINK', key('payload', call.n))
  end
  if head[IDEMPOTENCY] then redis.call('PEXPIRE', key('idempotency', head[IDEMPOTENCY]), retention + TTL_SLACK) end
  if not release_later(ON_FINISH, call, record) then
    if head[PARTS] == true then redis.call('PEXPIRE', key('parts', call.n), retention + TTL_SLACK) end
    for m in pairs(records_of(call)) do
      if m ~= record and redis.call('HINCRBY', key('output', m), 'u', -1) <= 0 then
        expire_record(m)
      end
    end
  end
  for _, m in ipairs(head[BATCHES] or {}) do emptied[m] = true end
  head[BATCHES] = false
  change_live(call.n, -1)
  expiring[#expiring + 1] = call.n
  finished_ids[#finished_ids + 1] = id_of(call.n)
  touch_call(call)
end

-- Slices whose calls one look reads at most.
local LOOK_MAX = 1000

-- The number of a live call of the batch, or false. From the back, since calls mostly end from the front: often the first
-- one read is live, and each look that finds none reads more.
local function live_call_in(batch)
  local slices = batch.fields[SLICES]
  local at, most = #slices - 2, 1
  while at > 0 do
    local numbers = {}
    while at > 0 and #numbers < most do
      local n = slices[at]
      if n < ended_from or n > ended_to then numbers[#numbers + 1] = n end
      at = at - 3
    end
    preload(numbers, 1, 1)
    for _, n in ipairs(numbers) do if live_call(n) then return n end end
    most = math.min(most * 4, LOOK_MAX)
  end
  return false
end

-- Whether the call that was live in the batch before is so still: then nothing of the batch is read, which may be large.
local function has_witness(m)
  local call = witnesses[m] and live_call(witnesses[m])
  for _, each in ipairs(call and call.head[BATCHES] or {}) do if each == m then return true end end
  return false
end

-- Batches whose calls have all ended go, unless a worker holds them: then their settle takes them away.
local function drop_emptied()
  for m in pairs(emptied) do
    local batch = not has_witness(m) and not is_leased(m) and batch_of(m)
    if batch then
      witnesses[m] = live_call_in(batch) or nil
      if not witnesses[m] then remove_batch(batch) end
    end
  end
end

-- Outcomes of calls that ended meanwhile are late: counted and dropped.
local function live_outcomes(outcomes)
  local applied, late = {}, 0
  for i = 1, #outcomes, 5 do
    if live_call(outcomes[i + 1]) then
      for j = i, i + 4 do applied[#applied + 1] = outcomes[j] end
    else
      late = late + outcomes[i + 3]
    end
  end
  return applied, late
end

-- Continuations { slices, attempts, claims, mode, not before } without rows of calls that ended; rows past their
-- deadline join the outcomes.
local function still_running(parts, applied)
  local rest = {}
  for _, part in ipairs(parts) do
    local slices = {}
    for i = 1, #part[1], 3 do
      local n, from, rows = part[1][i], part[1][i + 1], part[1][i + 2]
      local call = live_call(n)
      if call and call.head[DEADLINE] and call.head[DEADLINE] <= now then
        for _, number in ipairs({ PART_EXPIRED, n, from, rows, 0 }) do applied[#applied + 1] = number end
      elseif call then
        for _, number in ipairs({ n, from, rows }) do slices[#slices + 1] = number end
      end
    end
    if #slices > 0 then rest[#rest + 1] = { slices, part[2], part[3], part[4], part[5] } end
  end
  return rest
end

-- Keeps when the calls of a batch first ran and for how long.
local function note_run(batch, started, run_ms)
  if not started then return end
  batch.fields[RUN_MS] = batch.fields[RUN_MS] + run_ms
  local slices, last = batch.fields[SLICES], 0
  for i = 1, #slices, 3 do
    local call = slices[i] ~= last and live_call(slices[i])
    last = slices[i]
    if call then
      local head = call.head
      head[STARTED] = head[STARTED] and math.min(head[STARTED], started) or started
      head[HANDLER_MS] = head[HANDLER_MS] + run_ms
      touch_call(call)
    end
  end
end

-- Gives calls their parts; returns those that are finished by it, and how many calls refer to the record in all.
local function apply(applied, record)
  local finished, refers, references = {}, {}, 0
  for i = 1, #applied, 5 do
    local state, call, rows = applied[i], calls[applied[i + 1]], applied[i + 3]
    local head = call.head
    local has_data = state == PART_OK or state == PART_FAILED
    add_part(call, state, applied[i + 2], rows, record, applied[i + 4])
    if has_data and not refers[call] then
      refers[call] = true
      references = references + 1
    end
    if head[SETTLED] == head[ROWS] then finished[#finished + 1] = call end
  end
  local unfinished = references
  for _, call in ipairs(finished) do if refers[call] then unfinished = unfinished - 1 end end
  local told = {}
  for i = 1, #applied, 5 do
    local call = calls[applied[i + 1]]
    if call.head[SETTLED] < call.head[ROWS] and not told[call] then
      told[call] = true
      tell_advanced(call)
    end
  end
  return finished, references, unfinished
end

local function write_record(m, outcome, references, unfinished, applied)
  local args = { 'r', references, 'u', unfinished }
  for i = 1, #applied, 5 do
    if applied[i] == PART_OK then
      outcome.is_kept = true
      if not outcome.reference then told_record = m .. ':' .. (outcome.aside_bytes or #outcome.output) end
      if outcome.aside then
        redis.call('RENAME', outcome.aside, key('bytes', m))
        redis.call('PERSIST', key('bytes', m))
        args[#args + 1] = 'b'
        args[#args + 1] = outcome.aside_bytes
      else
        args[#args + 1] = outcome.reference and 's' or 'o'
        args[#args + 1] = outcome.reference or outcome.output
      end
      break
    end
  end
  if outcome.errors and outcome.errors ~= '' then
    args[#args + 1] = 'e'
    args[#args + 1] = outcome.errors
  end
  redis.call('HSET', key('output', m), unpack(args))
  if unfinished == 0 then expire_record(m) end
end

-- outcome: outcomes (state, call, first row, rows, place: flat), errors (JSON), output or reference, parts (continuations),
-- started, run_ms, is_silent (the batch stays with the caller: it does not become ready). Returns late rows.
local function conclude(batch, outcome)
  preload(outcome.outcomes, 2, 5)
  for _, part in ipairs(outcome.parts) do preload(part[1], 1, 3) end
  local applied, late = live_outcomes(outcome.outcomes)
  local rest = still_running(outcome.parts, applied)
  local keeps = #outcome.parts == 1 and #rest == 1
  end_lease(batch.m)
  note_run(batch, outcome.started, outcome.run_ms)
  local record = batch.m
  if keeps and #applied > 0 then record = next_number('batch') end
  local finished, references, unfinished = apply(applied, record)
  if references > 0 then write_record(record, outcome, references, unfinished, applied) end
  if keeps then
    let_go(batch)
    local part, fields = rest[1], batch.fields
    fields[SLICES], fields[ATTEMPTS], fields[CLAIMS], fields[MODE], fields[NOT_BEFORE] =
      part[1], part[2], part[3], part[4], part[5]
    hold(batch)
    touch_batch(batch)
    if not outcome.is_silent then make_ready(batch) end
  else
    local old = batch.fields
    drop_batch(batch)
    for _, part in ipairs(rest) do
      local piece = add_batch({ old[OF_VERSION], old[REASON], part[4], part[2], part[3], part[5], 0, part[1] })
      if not outcome.is_silent then make_ready(piece) end
    end
  end
  for _, call in ipairs(finished) do finish(call, PART_CANCELLED, record) end
  return late
end

-- Takes out of a batch what cannot run any more: rows of calls that are over, rows past their deadline, and (where
-- asked) rows whose payload is missing, which fail so that no worker tries them for ever. False: nothing is left.
local function shed(batch, failure_of)
  local slices = batch.fields[SLICES]
  preload(slices, 1, 3)
  local kept, outcomes, failure = {}, {}, nil
  for i = 1, #slices, 3 do
    local n, from, rows = slices[i], slices[i + 1], slices[i + 2]
    local call = live_call(n)
    if call then
      local is_past = call.head[DEADLINE] and call.head[DEADLINE] <= now
      local why = not is_past and failure_of and failure_of(call)
      local list = kept
      if is_past then
        outcomes[#outcomes + 1] = PART_EXPIRED
        list = outcomes
      elseif why then
        failure = why
        outcomes[#outcomes + 1] = PART_FAILED
        list = outcomes
      end
      list[#list + 1] = n
      list[#list + 1] = from
      list[#list + 1] = rows
      if list == outcomes then outcomes[#outcomes + 1] = 0 end
    end
  end
  if #kept == #slices then return true end
  if #outcomes == 0 and #kept == 0 then
    drop_batch(batch)
    return false
  end
  local old = batch.fields
  local parts = {}
  if #kept > 0 then parts[1] = { kept, old[ATTEMPTS], old[CLAIMS], old[MODE], old[NOT_BEFORE] } end
  conclude(batch, { outcomes = outcomes, errors = failure and '[' .. failure .. ']', parts = parts, is_silent = true })
  return #kept > 0
end

-- Ends a message: what comes after it may be of another output.
local function note_news()
  -- A word that is no id is left out by who does not know it: `+` those that go on, `@RECORD:BYTES` an output of theirs.
  local output = told_record and '@' .. told_record .. ' ' or ''
  if #advanced > 0 then news[#news + 1] = { advanced, '+ ' .. output } end
  if #finished_ids > 0 then news[#news + 1] = { finished_ids, output } end
  advanced, finished_ids, told_record = {}, {}, nil
end

local function flush()
  drop_emptied()
  for at = 1, #expiring, 1000 do
    local list = {}
    for i = at, math.min(at + 999, #expiring) do list[#list + 1] = expiring[i] end
    redis.call('ZADD', key('expiries'), now + retention, cmsgpack.pack(list))
  end
  flush_calls()
  flush_waiting()
  flush_batches()
  flush_counters()
  tell_slots()
  if #ended > 0 then publish('ended', ended) end
  note_news()
  for _, message in ipairs(news) do publish('calls', message[1], message[2]) end
end
