-- The record: reading it, and the one place that writes it.
-- @include _view

-- Written at once by a first call, so that redis-cli shows every field from the start.
local BLANK = {
  state = 'closed', failures = 0, run = 0, calls = 0, slow_calls = 0, opened_at = '', opened_at_ms = 0, retry_at_ms = 0,
  reopens = 0, closed_at_ms = 0, probe_successes = 0, trip_reason = '', last_error = '', tripped_by = '', outlier = '',
  mode = 'auto', mode_reason = '', mode_actor = '', mode_until_ms = 0, config_before = '', v = '1',
}

-- Entries kept in the events stream, approximately: months of a healthy circuit, an hour of one that flaps.
local MAX_EVENTS = 1000

local TEXTS = { 'last_error', 'outlier', 'settings', 'config', 'config_before' }

local function load(keys)
  local record = {}
  local values = redis.call('HMGET', keys.record, unpack(NUMBERS))
  for index, field in ipairs(NUMBERS) do
    record[field] = number_in(values[index])
  end
  values = redis.call('HMGET', keys.record, 'state', 'mode', unpack(TEXTS))
  record.state, record.mode = state_in(values[1]), mode_in(values[2])
  for index, field in ipairs(TEXTS) do
    record[field] = values[index + 2] or ''
  end
  return record
end

-- Never lower than the clock, so that a generation stays unique when a failover loses the last writes.
local function next_generation(record, now_ms)
  return math.max(record.generation + 1, now_ms)
end

-- An idle circuit is forgotten after idle_ms, an open one not before its cooldown is over, and one that an operator has
-- a say in not before that ends: never, where it has no end.
local function expire(keys, record, now_ms, idle_ms)
  local kept = record.settings ~= '' or (record.mode ~= 'auto' and record.mode_until_ms == 0)
  for _, key in pairs(keys) do
    if kept then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, idle_ms + math.max(0, record.retry_at_ms - now_ms, record.mode_until_ms - now_ms))
    end
  end
end

local IS_NUMBER = { probes_out = true, probe_until_ms = true, replicas = true }
for _, field in ipairs(NUMBERS) do IS_NUMBER[field] = true end

-- What is empty, and what is a number and zero, is left out: every replica reads every message, and most fields are.
local function publish(keys, now_ms, changes)
  local message = {}
  for field, text in pairs(view(keys, now_ms, changes)) do
    message[field] = text ~= '' and (text ~= '0' or not IS_NUMBER[field]) and text or nil
  end
  redis.call('PUBLISH', keys.record .. ':changes', cjson.encode(message))
end

-- Notes the event if there is one, tells every replica, and writes the changes (field to value), with a new revision.
-- What can fail comes first (something else in the place of the stream, a right that the user lacks), since Redis takes
-- back nothing of a script that fails.
local function change(keys, record, changes, now_ms, idle_ms, event)
  changes.revision = record.revision + 1
  local pairs_to_set = {}
  for field, value in pairs(changes) do
    record[field] = value
    pairs_to_set[#pairs_to_set + 1] = field
    pairs_to_set[#pairs_to_set + 1] = value
  end
  if event then
    redis.call('XADD', keys.events, 'MAXLEN', '~', MAX_EVENTS, '*', 'event', event.kind, 'state', record.state,
      'generation', record.generation, 'mode', record.mode, 'by', event.by, 'reason', event.reason, 'at_ms', now_ms)
  end
  publish(keys, now_ms, changes)
  if changes.generation then
    -- What was counted, seen and let out belongs to the generation that ends, or to an earlier life of the circuit.
    redis.call('DEL', keys.probes, keys.window, keys.reporters)
  end
  redis.call('HSET', keys.record, unpack(pairs_to_set))
  expire(keys, record, now_ms, idle_ms)
end

-- Begins a circuit, or begins it anew where only a part of it is left: then an operator's word stays in force.
local function create(keys, record, config, now_ms, idle_ms)
  local changes = { generation = next_generation(record, now_ms), config = config,
    config_at_ms = config ~= '' and now_ms or 0 }
  for field, value in pairs(BLANK) do
    changes[field] = value
  end
  changes.settings = record.settings
  if record.mode ~= 'auto' then
    local values = redis.call('HMGET', keys.record, 'mode_reason', 'mode_actor')
    changes.mode, changes.mode_until_ms = record.mode, record.mode_until_ms
    changes.mode_reason, changes.mode_actor = values[1] or '', values[2] or ''
  end
  change(keys, record, changes, now_ms, idle_ms)
end
