-- The fields of a record, as they have to be read: whatever a hand may have made of them, a circuit goes on.

local NUMBERS = { 'generation', 'revision', 'failures', 'run', 'calls', 'slow_calls', 'opened_at_ms', 'retry_at_ms',
  'reopens', 'closed_at_ms', 'probe_successes', 'mode_until_ms', 'config_at_ms' }
-- A state that is neither of these is closed, and a mode that is none of these is auto.
local STATES = { open = true, half_open = true }
local MODES = { forced_open = true, forced_closed = true, metrics_only = true }

-- Above this Lua writes a number with an exponent, which nobody here reads. As a moment it lies in the year 4821.
local LARGEST = 9 * 10 ^ 13

-- Reads a whole number; what is none, or makes no sense, is 0.
local function number_in(text)
  local number = tonumber(text)
  return number and number >= 0 and number < LARGEST and math.floor(number) or 0
end

local function state_in(text)
  return STATES[text] and text or 'closed'
end

local function mode_in(text)
  return MODES[text] and text or 'auto'
end
