-- The server's clock in integer milliseconds. Read once in a script: TIME moves while a script runs.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
