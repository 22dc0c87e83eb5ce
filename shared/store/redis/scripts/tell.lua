#!lua flags=allow-oom
-- Publishes an empty message on channels: whether scripts may. One that may not publish fails behind what it wrote.
-- KEYS  1 any key of the store      ARGV  channels
for _, channel in ipairs(ARGV) do redis.call('PUBLISH', channel, '') end
return 1
