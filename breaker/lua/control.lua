#!lua
-- Carries out an operator's action: sets a mode, or resets the circuit.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- KEYS[3] window: hash, permit id of a counted failure to its moment in ms
-- KEYS[4] events: stream
-- ARGV[1] action: reset, auto, forced_open, forced_closed or metrics_only
-- ARGV[2] reason: why
-- ARGV[3] actor: who
-- ARGV[4] duration_ms: how long the mode holds, ms; 0 until it is changed
-- Replies
--   view, field, value, field, value, ..., created (1 or 0)
-- Cost: O(fields + log probes), one event and one message.
-- @include _now
-- @include _record
local keys = { record = KEYS[1], probes = KEYS[2], window = KEYS[3], events = KEYS[4] }
local action, reason, actor, duration_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- An operator knows no replica's configuration; the next call sets the circuit's own time again.
local IDLE_MS = 7 * 24 * 3600 * 1000

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
  close(keys, record, no_mode, now_ms, IDLE_MS, { kind = 'reset', by = actor, reason = reason })
else
  local set_mode = { mode = action, mode_reason = reason, mode_actor = actor,
    mode_until_ms = duration_ms > 0 and now_ms + duration_ms or 0 }
  change(keys, record, action == 'auto' and no_mode or set_mode, now_ms, IDLE_MS,
    { kind = 'mode_changed', by = actor, reason = reason })
end
local reply = { 'view' }
for _, text in ipairs(view(keys.record, keys.probes, now_ms)) do
  reply[#reply + 1] = text
end
reply[#reply + 1] = created
return reply
