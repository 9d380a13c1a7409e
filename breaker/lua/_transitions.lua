-- What changes a circuit from one generation to the next.
-- @include _draw
-- @include _iso
-- @include _record

-- While two configurations are in use the record takes turns no more often than this.
local CONFIG_PAUSE_MS = 60000

local function end_expired_mode(keys, record, now_ms, idle_ms)
  if record.mode_until_ms > 0 and record.mode_until_ms <= now_ms then
    change(keys, record, { mode = 'auto', mode_reason = '', mode_actor = '', mode_until_ms = 0 }, now_ms, idle_ms,
      { kind = 'mode_expired', by = '', reason = '' })
  end
end

-- Notes the configuration of whoever asks. Where two are in use, as during a rolling deploy, they take turns, and where
-- the deploy is stuck they go on doing so: one event says so, a thousand would push the operators' out of the stream.
local function take_turn(keys, record, config, replica_id, now_ms, idle_ms)
  if record.config == config or now_ms - record.config_at_ms < CONFIG_PAUSE_MS then
    return
  end
  local event = { kind = 'config_changed', by = replica_id, reason = record.config }
  change(keys, record, { config = config, config_before = record.config, config_at_ms = now_ms }, now_ms, idle_ms,
    config ~= record.config_before and record.config ~= '' and event or nil)
end

-- How long to stay open: as configured at first, and longer with each reopening. The jitter is drawn from the circuit's
-- name and the generation, which is a moment in milliseconds: circuits that trip together do not probe in step.
local function cooldown_of(keys, limits, reopens, generation)
  local grown_ms = math.min(limits.cooldown_ms * limits.multiplier ^ math.min(reopens, 64),
    math.max(limits.cooldown_ms, limits.max_cooldown_ms))
  local name = string.match(keys.record, '{(.*)}')
  return math.floor(grown_ms * (1 + limits.jitter_percent / 100 * (drawn(name .. ' ' .. generation) / 1000)))
end

-- told: replica_id, outcome, error_class, open_for_ms, config; what: kind, reason, reopens.
local function open(keys, record, limits, told, what, now_ms)
  local generation = next_generation(record, now_ms)
  local reason, cooldown_ms = what.reason, cooldown_of(keys, limits, what.reopens, generation)
  if told.open_for_ms > 0 then
    reason, cooldown_ms = 'rate limited', math.min(told.open_for_ms, limits.max_cooldown_ms)
  end
  -- A success may be the call that completes a rate's minimum.
  local last_error = told.outcome == 'failure' and told.error_class or record.last_error
  local changes = { state = 'open', generation = generation, failures = record.failures, run = 0,
    opened_at = iso(now_ms), opened_at_ms = now_ms, retry_at_ms = now_ms + cooldown_ms, reopens = what.reopens,
    trip_reason = reason, last_error = last_error, tripped_by = told.replica_id, outlier = '', probe_successes = 0,
    config = told.config, config_at_ms = now_ms }
  changes.config_before = told.config ~= record.config and record.config or record.config_before
  change(keys, record, changes, now_ms, limits.idle_ms, { kind = what.kind, by = told.replica_id, reason = reason })
end

local function close(keys, record, also, now_ms, idle_ms, event)
  local changes = { state = 'closed', generation = next_generation(record, now_ms), failures = 0, run = 0,
    calls = 0, slow_calls = 0, opened_at = '', opened_at_ms = 0, retry_at_ms = 0, outlier = '', probe_successes = 0 }
  for field, value in pairs(also) do
    changes[field] = value
  end
  change(keys, record, changes, now_ms, idle_ms, event)
end
