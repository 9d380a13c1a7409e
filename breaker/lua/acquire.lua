#!lua
-- Asks for leave to make one call. Run twice for one permit it takes one place and gives one answer.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- KEYS[3] window: hash, what is counted
-- KEYS[4] reporters: sorted set, replica to its last failure in ms
-- KEYS[5] events: stream
-- ARGV[1] permit_id: unique to the call
-- ARGV[2] replica_id: who asks
-- ARGV[3] may_probe: 1, or 0 for who leaves probing to others
-- ARGV[4] config: the limits as text
-- Replies
--   permitted, state, generation, mode, mode_rest_ms, reporting, transition or nil, created (1 or 0)
--   refused, state, generation, mode, mode_rest_ms, reason, retry_after_ms, last_error, created (1 or 0)
-- where mode_rest_ms tells for how much longer an operator's mode holds, 0 when it has no end or there is none
-- Cost: closed, two HMGET, one PTTL; otherwise O(log probes) and one message for each change.
-- @include _now
-- @include _limits
-- @include _ramp
-- @include _transitions
local keys = { record = KEYS[1], probes = KEYS[2], window = KEYS[3], reporters = KEYS[4], events = KEYS[5] }
local permit_id, replica_id, may_probe, config = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]

local now_ms = now()
local record = load(keys)
local limits, fault = read_limits(config, record.settings)
if not limits then
  return fault
end
local created = 0
if record.generation == 0 then
  create(keys, record, config, now_ms, limits.idle_ms)
  created = 1
end
end_expired_mode(keys, record, now_ms, limits.idle_ms)
take_turn(keys, record, config, replica_id, now_ms, limits.idle_ms)

local mode_rest_ms = record.mode ~= 'auto' and record.mode_until_ms > 0 and record.mode_until_ms - now_ms or 0

local function permitted(reporting, transition)
  return { 'permitted', record.state, record.generation, record.mode, mode_rest_ms, reporting, transition or false,
    created }
end

local function refused(reason, retry_after_ms)
  if record.mode == 'metrics_only' then
    return permitted('nothing')
  end
  return { 'refused', record.state, record.generation, record.mode, mode_rest_ms, reason, retry_after_ms,
    record.last_error, created }
end

-- Calls keep a circuit alive, but one write in half a lifetime does for that.
local left_ms = redis.call('PTTL', keys.record)
if left_ms >= 0 and left_ms < limits.idle_ms / 2 then
  expire(keys, record, now_ms, limits.idle_ms)
end

if record.mode == 'forced_open' then
  return refused('forced_open', mode_rest_ms > 0 and mode_rest_ms or limits.cooldown_ms)
end
if record.mode == 'forced_closed' then
  return permitted('nothing')
end
if record.state == 'closed' then
  local rest_ms = held_back(record, limits, permit_id, now_ms)
  if rest_ms then
    return refused('ramping', rest_ms)
  end
  return permitted(limits.consecutive > 0 and record.run == 0 and 'failures' or 'counted')
end

local transition
if record.state == 'open' then
  if now_ms < record.retry_at_ms then
    return refused('open', record.retry_at_ms - now_ms)
  end
  if may_probe then
    change(keys, record, { state = 'half_open', generation = next_generation(record, now_ms) }, now_ms, limits.idle_ms,
      { kind = 'half_opened', by = replica_id, reason = '' })
    transition = 'half_opened'
  end
end

if may_probe then
  if tonumber(redis.call('ZSCORE', keys.probes, permit_id) or 0) > now_ms then
    return permitted('all', transition)
  end
  if redis.call('ZCOUNT', keys.probes, '(' .. now_ms, '+inf') < limits.probe_limit then
    redis.call('ZREMRANGEBYSCORE', keys.probes, '-inf', now_ms)
    redis.call('ZADD', keys.probes, now_ms + limits.lease_ms, permit_id)
    change(keys, record, {}, now_ms, limits.idle_ms)
    return permitted('all', transition)
  end
end
-- Who waits for another's probe and sees none yet waits for as long as one may take.
local first = redis.call('ZRANGE', keys.probes, '(' .. now_ms, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
return refused('probing', first[2] and tonumber(first[2]) - now_ms or limits.lease_ms)
