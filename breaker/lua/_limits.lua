-- The thresholds in force: the caller's configuration, and over it what an operator set. Both are name=value texts.
local DEFAULTS = {
  consecutive = 0, window_ms = 0, minimum_calls = 0, failure_percent = 0, slow_percent = 0, minimum_reporters = 1,
  multiplier = 1, max_cooldown_ms = 600000, jitter_percent = 0, stable_ms = 300000, probe_limit = 1,
  probe_successes = 1, ramp_ms = 0, idle_ms = 604800000,
}
local NEEDED = { 'cooldown_ms', 'lease_ms' }

local function read_limits(config, settings)
  local limits = {}
  for name, value in string.gmatch(config .. ' ' .. settings, '([%w_]+)=([%d.]+)') do
    limits[name] = tonumber(value)
  end
  for name, value in pairs(DEFAULTS) do
    limits[name] = limits[name] or value
  end
  for _, name in ipairs(NEEDED) do
    if not limits[name] then
      return nil, redis.error_reply('BREAKER the limits lack ' .. name)
    end
  end
  return limits
end
