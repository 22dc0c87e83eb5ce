-- What the scripts of the slot that belongs to no function begin with.
-- KEYS[1]: the store's generation (`{sluice}:generation`). ARGV[1]: the generation that the client opened.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('SLUICE data_lost its generation is another')
end
