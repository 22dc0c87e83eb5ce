-- Which life of the server this is.
-- A server that was restored or promoted may lack the numbers that were given last, and readers and caches know them:
-- none is ever given again, so that each life of a server (its run id) begins beyond what the one before it can have lost.
local LOST_NUMBERS = 131072

local function server_run()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)')
end
