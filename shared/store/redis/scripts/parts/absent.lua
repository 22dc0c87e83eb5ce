-- What a call is that is not there: never (or nobody knows any more), gone (past its retention), or lost: an earlier life
-- of the server may have given its number, and this one came up without it.
local NEVER, GONE, LOST = 0, 1, 2

local function is_lost(n)
  local last = counter('call')
  if n > last then
    -- This life has given no number yet.
    local run, known = runs()
    return n <= last + LOST_NUMBERS and run and known and run ~= known
  end
  local spans = lost_spans()
  for at = 1, #spans, 2 do
    if n >= spans[at] and n <= spans[at + 1] then return true end
  end
  return false
end

local function absent(n)
  if n <= counter('floor') then return NEVER end
  if is_lost(n) then return LOST end
  return n <= counter('call') and GONE or NEVER
end
