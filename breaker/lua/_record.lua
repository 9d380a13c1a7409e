-- The record: reading it, and the one place that writes it.
-- @include _view

-- Written at once by a first call, so that redis-cli shows every field from the start.
local BLANK = {
  'failures', '0', 'opened_at', '', 'opened_at_ms', '0', 'retry_at_ms', '0', 'reopens', '0',
  'probe_successes', '0', 'trip_reason', '', 'last_error', '', 'tripped_by', '', 'mode', 'auto', 'mode_reason', '',
  'mode_actor', '', 'mode_until_ms', '0', 'v', '1',
}

-- Entries kept in the events stream, approximately: months of a healthy circuit, an hour of one that flaps.
local MAX_EVENTS = 1000

local function load(keys)
  local values = redis.call('HMGET', keys.record, 'generation', 'state', 'failures', 'retry_at_ms', 'mode',
    'mode_until_ms', 'last_error', 'reopens', 'probe_successes')
  return {
    generation = tonumber(values[1]) or 0,
    state = values[2] or 'closed',
    failures = tonumber(values[3]) or 0,
    retry_at_ms = tonumber(values[4]) or 0,
    mode = values[5] or 'auto',
    mode_until_ms = tonumber(values[6]) or 0,
    last_error = values[7] or '',
    reopens = tonumber(values[8]) or 0,
    probe_successes = tonumber(values[9]) or 0,
  }
end

-- Never lower than the clock, so that a generation stays unique when a failover loses the last writes.
local function next_generation(record, now_ms)
  return math.max(record.generation + 1, now_ms)
end

-- An idle circuit is forgotten after idle_ms, an open one not before its cooldown is over, and one in an operator's
-- mode not before the mode is: never, where the mode has no end.
local function expire(keys, record, now_ms, idle_ms)
  for _, key in pairs(keys) do
    if record.mode ~= 'auto' and record.mode_until_ms == 0 then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, idle_ms + math.max(0, record.retry_at_ms - now_ms, record.mode_until_ms - now_ms))
    end
  end
end

local function publish(keys, now_ms)
  local fields, message = view(keys.record, keys.probes, now_ms), {}
  for index = 1, #fields, 2 do
    message[fields[index]] = fields[index + 1]
  end
  redis.call('PUBLISH', keys.record .. ':changes', cjson.encode(message))
end

-- Writes the changes (field to value), counts the revision up, notes the event if there is one, tells every replica.
local function change(keys, record, changes, now_ms, idle_ms, event)
  local pairs_to_set = {}
  for field, value in pairs(changes) do
    record[field] = value
    pairs_to_set[#pairs_to_set + 1] = field
    pairs_to_set[#pairs_to_set + 1] = value
  end
  if #pairs_to_set > 0 then
    redis.call('HSET', keys.record, unpack(pairs_to_set))
  end
  redis.call('HINCRBY', keys.record, 'revision', 1)
  if event then
    redis.call('XADD', keys.events, 'MAXLEN', '~', MAX_EVENTS, '*', 'event', event.kind, 'state', record.state,
      'generation', record.generation, 'mode', record.mode, 'by', event.by, 'reason', event.reason, 'at_ms', now_ms)
  end
  expire(keys, record, now_ms, idle_ms)
  publish(keys, now_ms)
end

local function create(keys, record, config, now_ms, idle_ms)
  record.generation = next_generation(record, now_ms)
  redis.call('HSET', keys.record, 'state', 'closed', 'generation', record.generation, 'revision', 1, 'config', config,
    unpack(BLANK))
  expire(keys, record, now_ms, idle_ms)
  publish(keys, now_ms)
end

local function end_expired_mode(keys, record, now_ms, idle_ms)
  if record.mode_until_ms > 0 and record.mode_until_ms <= now_ms then
    change(keys, record, { mode = 'auto', mode_reason = '', mode_actor = '', mode_until_ms = 0 }, now_ms, idle_ms,
      { kind = 'mode_expired', by = '', reason = '' })
  end
end

-- Forgets everything that belongs to the generation that ends.
local function forget_calls(keys)
  redis.call('DEL', keys.probes, keys.window)
end

local function close(keys, record, also, now_ms, idle_ms, event)
  forget_calls(keys)
  local changes = { state = 'closed', generation = next_generation(record, now_ms), failures = 0, opened_at = '',
    opened_at_ms = 0, retry_at_ms = 0, probe_successes = 0, reopens = 0 }
  for field, value in pairs(also) do
    changes[field] = value
  end
  change(keys, record, changes, now_ms, idle_ms, event)
end
