#!lua
-- Registers a version and makes it, or a known one, current or staged; its batching is what the deploy says.
-- function: hash name, current, last (the version given last), staged, staged-new (parts/staged), scaling (JSON), paused, created,
--   updated, removed (at), moves (scripts/move.lua)
-- versions: hash version → MessagePack { digest, created, spec (JSON, without its source) }
-- sources: hash version → JSON                  digests: hash digest → version
-- batching: hash version → JSON          facts: hash version → JSON of what outlives its spec in caches
-- removed-versions: hash version → when it was removed         unused, retired: parts/versions
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 name; 5 digest; 6 spec; 7 batching; 8 facts; 9 channel to tell; 10 versions at most;
--       11 '1': staged where another one is current; 12 scaling (JSON), '' for none, '-' leaves what it has;
--       13 source (JSON)
-- Result  { version, 1 where it is new or was removed }
-- include: base
-- include: staged
-- include: versions
local record = key('function')
local version = redis.call('HGET', key('digests'), ARGV[5])
local created = 0
if not version then
  local most = tonumber(ARGV[10])
  free_numbers()
  if redis.call('HLEN', key('versions')) + redis.call('HLEN', key('retired')) >= most then
    return redis.error_reply('SLUICE invalid_function Function "' .. ARGV[4] .. '" has ' .. ARGV[10]
      .. ' versions, or had them today, and no more can be numbered; the oldest go, hour by hour, when their calls are finished and the'
      .. ' results past their retention, and their numbers are free a day later. Deploy it later, or under another name.')
  end
  -- Round and round, so that a number is given again as late as can be.
  local last = tonumber(redis.call('HGET', record, 'last') or 0)
  repeat last = last % most + 1
  until redis.call('HEXISTS', key('versions'), last) + redis.call('HEXISTS', key('retired'), last) == 0
  version = last
  redis.call('HSET', record, 'last', version)
  redis.call('HSET', key('digests'), ARGV[5], version)
  redis.call('HSET', key('versions'), version, cmsgpack.pack({ ARGV[5], now, ARGV[6] }))
  redis.call('HSET', key('sources'), version, ARGV[13])
  redis.call('HSET', key('facts'), version, ARGV[8])
  created = 1
elseif redis.call('HDEL', key('removed-versions'), version) == 1 then
  local known = cmsgpack.unpack(redis.call('HGET', key('versions'), version))
  redis.call('HSET', key('versions'), version, cmsgpack.pack({ known[1], now, known[3] }))
  created = 1
end
redis.call('HDEL', key('unused'), version)
redis.call('HSET', key('batching'), version, ARGV[7])
if server_run() then redis.call('HSETNX', key('queue'), 'run', server_run()) end
-- Only its number, by which old calls are known, is left of a removed function.
if redis.call('HEXISTS', record, 'removed') == 1 then redis.call('HDEL', record, 'created', 'paused') end
redis.call('HSETNX', record, 'created', ARGV[2])
redis.call('HSETNX', record, 'paused', 0)
if ARGV[12] == '' then redis.call('HDEL', record, 'scaling')
elseif ARGV[12] ~= '-' then redis.call('HSET', record, 'scaling', ARGV[12]) end
stage(tostring(version), ARGV[11] == '1', created)
redis.call('HSET', record, 'name', ARGV[4], 'updated', ARGV[2])
redis.call('HDEL', record, 'removed')
redis.call('PUBLISH', ARGV[9], ARGV[4])
return { tonumber(version), created }
