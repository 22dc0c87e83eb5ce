#!lua flags=no-writes
-- What the function's counters say.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base
-- Result  { waiting rows, sealed rows, waiting calls, arrival of the oldest waiting call or 0, live calls, { version, … } with
--         open batches, the version of that oldest call or 0, { rows that ended, by outcome } }
-- include: base
-- include: calls
local oldest, version = 0, 0
local first = redis.call('XRANGE', key('waiting'), '-', '+', 'COUNT', 1)[1]
local call = first and live_call(tonumber(string.match(first[1], '^%d+')))
if call then oldest, version = call.head[ARRIVED], call.head[VERSION] end
return { counter('waiting_rows'), counter('sealed_rows'), counter('waiting_calls'), oldest, counter('live_calls'),
  redis.call('HKEYS', key('open-batches')), version,
  { counter('ended_0'), counter('ended_1'), counter('ended_2'), counter('ended_3') } }
