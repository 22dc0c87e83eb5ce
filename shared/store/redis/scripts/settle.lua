#!lua flags=allow-oom
-- Commits what became of leased batches, one after another: the first settle whose token is current wins.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; then for each: number; token; MessagePack { outcomes, parts, started, run ms } (parts/ending; calls of
--       another function are -1); errors, JSON list or ''; output or ''; reference to it (parts/objects) or '';
--       the key under which it was set just before (`aside:NAME`) or ''
-- Result  MessagePack { { added }, { 1 committed | 0 stale | 2 not what was leased | 3 the upload of its output was given up | 4 what
--       was set aside is not there | 5 failed by itself, late rows, what was leased or the error } for each }
-- include: base
-- include: calls
-- include: batches
-- include: ending
local WIDTH = 7

-- The usual case: one outcome for each slice, in the same order.
local function is_same_order(leased, outcomes, parts)
  if #parts > 0 or #leased / 3 ~= #outcomes / 5 then return false end
  for i = 0, #leased / 3 - 1 do
    for j = 1, 3 do if leased[i * 3 + j] ~= outcomes[i * 5 + 1 + j] then return false end end
  end
  return true
end

-- Slices in order, neighbours joined, as text: overlaps and gaps show as a difference.
local function joined(lists)
  local runs, texts = {}, {}
  for _, list in ipairs(lists) do
    local numbers, first, width = list[1], list[2], list[3]
    for i = first, #numbers, width do runs[#runs + 1] = { numbers[i], numbers[i + 1], numbers[i + 2] } end
  end
  table.sort(runs, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  local n, from, to = 0, 0, 0
  for i = 1, #runs + 1 do
    local run = runs[i]
    if run and run[1] == n and run[2] == to then
      to = to + run[3]
    else
      if to > from then texts[#texts + 1] = n .. ':' .. from .. '-' .. to end
      if run then n, from, to = run[1], run[2], run[2] + run[3] end
    end
  end
  return table.concat(texts, ',')
end

local function difference(leased, outcomes, parts)
  if is_same_order(leased, outcomes, parts) then return false end
  local lists = { { outcomes, 2, 5 } }
  for _, part in ipairs(parts) do lists[#lists + 1] = { part[1], 1, 3 } end
  local want = joined({ { leased, 1, 3 } })
  local given = joined(lists)
  return want ~= given and string.sub('leased ' .. want .. ', given ' .. given, 1, 2000)
end

local function settle(m, token, packed, errors, output, reference, name)
  local aside = name ~= '' and key('aside', name)
  local batch = held_batch(m, token)
  if not batch then
    if aside then redis.call('UNLINK', aside) end
    return { 0, 0 }
  end
  local aside_bytes = aside and redis.call('STRLEN', aside)
  if aside_bytes == 0 then return { 4, 0 } end
  local asked = cmsgpack.unpack(packed)
  local outcomes, parts = asked[1], asked[2]
  local wrong = difference(batch.fields[SLICES], outcomes, parts)
  if wrong then
    if aside then redis.call('UNLINK', aside) end
    return { 2, wrong }
  end
  reference = reference ~= '' and reference
  if reference and not take_object(reference) then return { 3, 0 } end
  local outcome = {
    outcomes = outcomes, errors = errors, output = output, reference = reference, parts = parts, started = asked[3],
    run_ms = asked[4], aside = aside, aside_bytes = aside_bytes,
  }
  local late = conclude(batch, outcome)
  if aside and not outcome.is_kept then redis.call('UNLINK', aside) end
  if reference and not outcome.is_kept then drop_object(reference) end
  note_news()
  return { 1, late }
end

local told = {}
for at = 4, #ARGV, WIDTH do
  -- What one comes to must not keep the others from being written.
  local is_done, answer = pcall(settle, tonumber(ARGV[at]), unpack(ARGV, at + 1, at + WIDTH - 1))
  told[#told + 1] = is_done and answer or { 5, type(answer) == 'table' and answer.err or tostring(answer) }
end
flush()
return cmsgpack.pack({ added, told })
