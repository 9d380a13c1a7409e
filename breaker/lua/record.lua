#!lua
-- Settles a permit: at most once, and only in the generation that issued it.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- KEYS[3] window: hash, permit id of a counted failure to its moment in ms
-- KEYS[4] events: stream
-- ARGV[1] permit_id: the permit's
-- ARGV[2] replica_id: who reports
-- ARGV[3] generation: the permit's; 0 gives back a lease whose answer was lost
-- ARGV[4] outcome: success, failure or ignored
-- ARGV[5] error: class of the failure, may be empty
-- ARGV[6] failure_threshold: failures in a row that trip, count
-- ARGV[7] cooldown_ms: time open before a probe, ms
-- ARGV[8] probe_successes: probes that must succeed to close, count
-- ARGV[9] idle_ms: how long an unused circuit is kept, ms
-- ARGV[10] config: the configuration as text
-- Replies
--   recorded, state, generation, failures, transition or nil
--   stale, state, generation, failures, nil
-- Cost: O(log probes), and one message for each change; the window holds fewer ids than failure_threshold.
-- @include _now
-- @include _iso
-- @include _record
local keys = { record = KEYS[1], probes = KEYS[2], window = KEYS[3], events = KEYS[4] }
local permit_id, replica_id, generation, outcome = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local error_class, failure_threshold, cooldown_ms = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local probe_successes, idle_ms, config = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]

local now_ms = now()
local record = load(keys)
local given_back_unseen = generation == 0 and outcome == 'ignored'

local function answer(word, transition)
  return { word, record.state, record.generation, record.failures, transition or false }
end

local function open(kind, also)
  forget_calls(keys)
  local changes = { state = 'open', generation = next_generation(record, now_ms), opened_at = iso(now_ms),
    opened_at_ms = now_ms, retry_at_ms = now_ms + cooldown_ms, last_error = error_class, tripped_by = replica_id,
    config = config, probe_successes = 0 }
  for field, value in pairs(also) do
    changes[field] = value
  end
  change(keys, record, changes, now_ms, idle_ms, { kind = kind, by = replica_id, reason = also.trip_reason })
  return answer('recorded', kind)
end

if record.generation == 0 or (generation ~= record.generation and not given_back_unseen) then
  return answer('stale')
end

if record.state == 'half_open' then
  local deadline_ms = tonumber(redis.call('ZSCORE', keys.probes, permit_id) or 0)
  if deadline_ms <= now_ms then
    return answer('stale')
  end
  if outcome == 'failure' then
    return open('reopened', { reopens = record.reopens + 1, trip_reason = 'probe failed' })
  end
  if outcome == 'success' and record.probe_successes + 1 >= probe_successes then
    close(keys, record, {}, now_ms, idle_ms, { kind = 'closed', by = replica_id, reason = 'probe succeeded' })
    return answer('recorded', 'closed')
  end
  redis.call('ZREM', keys.probes, permit_id)
  local successes = outcome == 'success' and record.probe_successes + 1 or record.probe_successes
  change(keys, record, { probe_successes = successes }, now_ms, idle_ms)
  return answer('recorded')
end

if record.state == 'open' or given_back_unseen then
  return answer('stale')
end

if outcome == 'failure' and redis.call('HEXISTS', keys.window, permit_id) == 0 then
  local failures = record.failures + 1
  if failures >= failure_threshold then
    return open('tripped', { failures = failures, trip_reason = failures .. ' consecutive failures' })
  end
  redis.call('HSET', keys.window, permit_id, now_ms)
  change(keys, record, { failures = failures, last_error = error_class }, now_ms, idle_ms)
elseif outcome == 'success' and record.failures > 0 then
  redis.call('DEL', keys.window)
  change(keys, record, { failures = 0 }, now_ms, idle_ms)
end
return answer('recorded')
