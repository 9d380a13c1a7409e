#!lua
-- Asks for leave to make one call. Run twice for one permit it takes one place and gives one answer.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- KEYS[3] window: hash, permit id of a counted failure to its moment in ms
-- KEYS[4] events: stream
-- ARGV[1] permit_id: unique to the call
-- ARGV[2] replica_id: who asks
-- ARGV[3] cooldown_ms: pause to suggest where a mode has no end, ms
-- ARGV[4] probe_limit: probes out at once, count
-- ARGV[5] lease_ms: how long a probe keeps its place, ms
-- ARGV[6] idle_ms: how long an unused circuit is kept, ms
-- ARGV[7] config: the configuration as text
-- Replies
--   permitted, state, generation, mode, reporting, transition or nil, created (1 or 0)
--   refused, state, generation, mode, reason, retry_after_ms, last_error, created (1 or 0)
-- Cost: closed, one HMGET, one PTTL; otherwise O(log probes) and one message for each change.
-- @include _now
-- @include _record
local keys = { record = KEYS[1], probes = KEYS[2], window = KEYS[3], events = KEYS[4] }
local permit_id, replica_id = ARGV[1], ARGV[2]
local cooldown_ms, probe_limit, lease_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local idle_ms, config = tonumber(ARGV[6]), ARGV[7]

local now_ms = now()
local record = load(keys)
local created = 0
if record.generation == 0 then
  create(keys, record, config, now_ms, idle_ms)
  created = 1
elseif record.mode_until_ms > 0 then
  end_expired_mode(keys, record, now_ms, idle_ms)
end

local function permitted(reporting, transition)
  return { 'permitted', record.state, record.generation, record.mode, reporting, transition or false, created }
end

local function refused(reason, retry_after_ms)
  return { 'refused', record.state, record.generation, record.mode, reason, retry_after_ms, record.last_error, created }
end

-- Calls keep a circuit alive, but one write in half a lifetime does for that.
local left_ms = redis.call('PTTL', keys.record)
if left_ms >= 0 and left_ms < idle_ms / 2 then
  expire(keys, record, now_ms, idle_ms)
end

if record.mode == 'forced_open' then
  return refused('forced_open', record.mode_until_ms > 0 and record.mode_until_ms - now_ms or cooldown_ms)
end
if record.mode == 'forced_closed' then
  return permitted('nothing')
end
if record.state == 'closed' then
  return permitted(record.failures > 0 and 'counted' or 'failures')
end

local transition
if record.state == 'open' then
  if now_ms < record.retry_at_ms then
    if record.mode == 'metrics_only' then
      return permitted('nothing')
    end
    return refused('open', record.retry_at_ms - now_ms)
  end
  forget_calls(keys)
  change(keys, record, { state = 'half_open', generation = next_generation(record, now_ms), probe_successes = 0 },
    now_ms, idle_ms, { kind = 'half_opened', by = replica_id, reason = '' })
  transition = 'half_opened'
end

local deadline_ms = tonumber(redis.call('ZSCORE', keys.probes, permit_id) or 0)
if deadline_ms > now_ms then
  return permitted('all', transition)
end
redis.call('ZREMRANGEBYSCORE', keys.probes, '-inf', now_ms)
if redis.call('ZCARD', keys.probes) < probe_limit then
  redis.call('ZADD', keys.probes, now_ms + lease_ms, permit_id)
  change(keys, record, {}, now_ms, idle_ms)
  return permitted('all', transition)
end
if record.mode == 'metrics_only' then
  return permitted('nothing')
end
local first = redis.call('ZRANGE', keys.probes, 0, 0, 'WITHSCORES')
return refused('probing', tonumber(first[2]) - now_ms)
