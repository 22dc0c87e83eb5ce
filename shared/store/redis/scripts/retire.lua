#!lua flags=allow-oom
-- Drops superseded versions that nothing needs: not current, not staged, without unfinished calls, and unreadable for a time.
-- One that is looked at first is noted only, with when the last result of this function that is kept now is gone.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 for how long; 5 channel to tell; 6 JSON array of the digests; 7 JSON array of versions with waiting
--       calls, or '' where nobody has looked; 8 a text that no other look has
-- Result  { 1 where the waiting calls are to be looked at first, else the dropped digests }
-- include: base
-- include: versions
local known = redis.call('HMGET', key('function'), 'name', 'removed', 'current', 'staged')
if not known[1] or known[2] then return {} end
local has_looked = ARGV[7] ~= ''
local waiting = {}
if has_looked then for _, version in ipairs(cjson.decode(ARGV[7])) do waiting[tostring(version)] = true end end
local last = redis.call('ZREVRANGE', key('expiries'), 0, 0, 'WITHSCORES')[2]
local unreadable_at = string.format('%.0f', math.max(now, tonumber(last or 0)))
local begun, due = {}, {}
for _, digest in ipairs(cjson.decode(ARGV[6])) do
  local version = redis.call('HGET', key('digests'), digest)
  if version and redis.call('HEXISTS', key('removed-versions'), version) == 0 then
    local is_used = version == known[3] or version == known[4] or waiting[version]
      or redis.call('HEXISTS', key('open-batches'), version) == 1
    local note = redis.call('HGET', key('unused'), version)
    if is_used then redis.call('HDEL', key('unused'), version)
    -- What got calls while the waiting ones were looked at has lost the note of this look.
    elseif not tonumber(note) then
      if not has_looked or note == ARGV[8] then begun[#begun + 1] = version end
    elseif tonumber(note) + tonumber(ARGV[4]) <= now then due[#due + 1] = { digest, version } end
  end
end
if #begun + #due == 0 then return {} end
local must_look = not has_looked and counter('waiting_calls') > 0
for _, version in ipairs(begun) do
  redis.call('HSET', key('unused'), version, must_look and ARGV[8] or unreadable_at)
end
if must_look then return { 1 } end
local dropped = {}
for _, one in ipairs(due) do
  drop_version(one[2])
  dropped[#dropped + 1] = one[1]
end
if #dropped > 0 then redis.call('PUBLISH', ARGV[5], known[1]) end
return dropped
