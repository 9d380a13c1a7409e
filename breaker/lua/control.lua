#!lua
-- Carries out an operator's action: sets a mode, changes thresholds, or resets the circuit.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- KEYS[3] window: hash, what is counted
-- KEYS[4] reporters: sorted set, replica to its last failure in ms
-- KEYS[5] events: stream
-- ARGV[1] action: reset, adjust, auto, forced_open, forced_closed or metrics_only
-- ARGV[2] reason: why
-- ARGV[3] actor: who
-- ARGV[4] duration_ms: how long the mode holds, ms; 0 until it is changed
-- ARGV[5] changes: name=value texts to adjust; an empty value takes a setting back
-- Replies
--   view, field, value, field, value, ..., created (1 or 0)
-- Cost: O(fields + log probes), one event and one message.
-- @include _now
-- @include _transitions
local keys = { record = KEYS[1], probes = KEYS[2], window = KEYS[3], reporters = KEYS[4], events = KEYS[5] }
local action, reason, actor, duration_ms, changes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

local ACTIONS = { reset = true, adjust = true, auto = true, forced_open = true, forced_closed = true,
  metrics_only = true }
-- Ten years: beyond that it is a mistake, and soon no number that Redis takes for an expiry.
local MOST_MS = 10 * 365 * 24 * 3600 * 1000
if not ACTIONS[action] then
  return redis.error_reply('BREAKER there is no action ' .. action)
end
if not duration_ms or duration_ms % 1 ~= 0 or duration_ms < 0 or duration_ms > MOST_MS then
  return redis.error_reply('BREAKER a duration is a whole number of ms, from 0 to ' .. MOST_MS)
end

-- An operator knows no replica's configuration; the next call sets the circuit's own time again.
local IDLE_MS = 7 * 24 * 3600 * 1000

-- Settings after the changes, sorted by name, so that equal ones are equal texts.
local function adjusted(settings)
  local after, sorted = {}, {}
  for name, value in string.gmatch(settings .. ' ' .. changes, '([%w_]+)=([%d.]*)') do
    after[name] = value
  end
  for name, value in pairs(after) do
    if value ~= '' then
      sorted[#sorted + 1] = name .. '=' .. value
    end
  end
  table.sort(sorted)
  return table.concat(sorted, ' ')
end

local now_ms = now()
local record = load(keys)
local created = 0
if record.generation == 0 then
  create(keys, record, '', now_ms, IDLE_MS)
  created = 1
end
end_expired_mode(keys, record, now_ms, IDLE_MS)

local no_mode = { mode = 'auto', mode_reason = '', mode_actor = '', mode_until_ms = 0 }
if action == 'reset' then
  no_mode.reopens, no_mode.closed_at_ms = 0, 0
  close(keys, record, no_mode, now_ms, IDLE_MS, { kind = 'reset', by = actor, reason = reason })
elseif action == 'adjust' then
  change(keys, record, { settings = adjusted(record.settings) }, now_ms, IDLE_MS,
    { kind = 'settings_changed', by = actor, reason = reason })
else
  local set_mode = { mode = action, mode_reason = reason, mode_actor = actor,
    mode_until_ms = duration_ms > 0 and now_ms + duration_ms or 0 }
  change(keys, record, action == 'auto' and no_mode or set_mode, now_ms, IDLE_MS,
    { kind = 'mode_changed', by = actor, reason = reason })
end
local reply = view_reply(keys, now_ms)
reply[#reply + 1] = created
return reply
