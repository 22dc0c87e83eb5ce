#!lua flags=allow-oom
-- Drops superseded versions that nothing needs: not current, not staged, without unfinished calls, and unreadable for a time.
-- One that is looked at first is noted only, with when the last result of this function that is kept now is gone.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 for how long; 5 channel to tell; 6 JSON array of the digests; 7 JSON array of versions with waiting
--       calls, or '' where nobody has looked
-- Result  { 1 where the waiting calls are to be looked at first, else the dropped digests }
-- include: base
-- include: versions
local known = redis.call('HMGET', key('function'), 'name', 'removed', 'current', 'staged')
if not known[1] or known[2] then return {} end
local waiting = {}
if ARGV[7] ~= '' then for _, version in ipairs(cjson.decode(ARGV[7])) do waiting[tostring(version)] = true end end
local last = redis.call('ZREVRANGE', key('expiries'), 0, 0, 'WITHSCORES')[2]
local unreadable_at = math.max(now, tonumber(last or 0))
local digests = cjson.decode(ARGV[6])
local due = {}
for _, digest in ipairs(digests) do
  local version = redis.call('HGET', key('digests'), digest)
  if version and redis.call('HEXISTS', key('removed-versions'), version) == 0 then
    local is_used = version == known[3] or version == known[4] or waiting[version]
      or redis.call('HEXISTS', key('open-batches'), version) == 1
    local at = redis.call('HGET', key('unused'), version)
    if is_used then redis.call('HDEL', key('unused'), version)
    elseif not at or tonumber(at) + tonumber(ARGV[4]) <= now then due[#due + 1] = { digest, version, at } end
  end
end
if #due == 0 then return {} end
if ARGV[7] == '' and counter('waiting_calls') > 0 then return { 1 } end
local dropped = {}
for _, one in ipairs(due) do
  if one[3] then
    drop_version(one[2])
    dropped[#dropped + 1] = one[1]
  else
    redis.call('HSET', key('unused'), one[2], string.format('%.0f', unreadable_at))
  end
end
if #dropped > 0 then redis.call('PUBLISH', ARGV[5], known[1]) end
return dropped
