-- The thresholds in force: the caller's configuration, and over it what an operator set. Both are name=value texts.
local DEFAULTS = {
  consecutive = 0, window_ms = 0, minimum_calls = 0, failure_percent = 0, slow_percent = 0, minimum_reporters = 1,
  multiplier = 1, max_cooldown_ms = 600000, jitter_percent = 0, stable_ms = 300000, probe_limit = 1,
  probe_successes = 1, ramp_ms = 0, idle_ms = 604800000,
}
local NEEDED = { 'cooldown_ms', 'lease_ms' }

-- What an operator may set, from where to where, and whether it may have a fraction.
local MOST = 10000000000
local ADJUSTABLE = {
  consecutive = { 1, MOST }, window_ms = { 1000, MOST }, minimum_calls = { 1, MOST }, minimum_reporters = { 1, MOST },
  failure_percent = { 0, 100, true }, slow_percent = { 0, 100, true }, jitter_percent = { 0, 100, true },
  multiplier = { 1, 100, true }, cooldown_ms = { 1, MOST }, max_cooldown_ms = { 1, MOST }, stable_ms = { 0, MOST },
  probe_limit = { 1, MOST }, probe_successes = { 1, MOST }, ramp_ms = { 0, MOST },
}

local function read_limits(config, settings)
  local limits = {}
  for name, text in string.gmatch(config, '([%w_]+)=([%d.]+)') do
    limits[name] = tonumber(text)
  end
  -- Settings may have been written by a newer version, or by hand: what makes no sense is passed over.
  for name, text in string.gmatch(settings, '([%w_]+)=([%d.]+)') do
    local value, range = tonumber(text), ADJUSTABLE[name]
    if value and range and value <= range[2] then
      value = range[3] and value or math.floor(value)
      limits[name] = value >= range[1] and value or limits[name]
    end
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
