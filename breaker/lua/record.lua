#!lua
-- Settles permits: at most once, and only in the generation that issued them.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- KEYS[3] window: hash, what is counted: ids of failures in a row, or a rate's buckets
-- KEYS[4] reporters: sorted set, replica to its last failure in ms
-- KEYS[5] events: stream
-- ARGV[1] permit_id: the permit's
-- ARGV[2] replica_id: who reports
-- ARGV[3] generation: the permit's; 0 gives back a lease whose answer was lost
-- ARGV[4] outcome: success, failure or ignored
-- ARGV[5] error_class: class of the failure, may be empty
-- ARGV[6] calls: how many a rate is to count
-- ARGV[7] failures: how many of them failed
-- ARGV[8] slow: how many of them were slow
-- ARGV[9] open_for_ms: how long the dependency said to stay away, ms; 0 when it said nothing
-- ARGV[10] alone: 1 when the replica's own calls would have tripped the circuit
-- ARGV[11] config: the limits as text
-- Replies
--   recorded, state, generation, failures, transition or nil
--   stale, state, generation, failures, nil
-- Cost: O(log probes + buckets + failures in a row), and one message for each change.
-- @include _now
-- @include _limits
-- @include _transitions
-- @include _count
local keys = { record = KEYS[1], probes = KEYS[2], window = KEYS[3], reporters = KEYS[4], events = KEYS[5] }
local told = {
  permit_id = ARGV[1], replica_id = ARGV[2], generation = tonumber(ARGV[3]), outcome = ARGV[4], error_class = ARGV[5],
  calls = tonumber(ARGV[6]), failures = tonumber(ARGV[7]), slow = tonumber(ARGV[8]), open_for_ms = tonumber(ARGV[9]),
  alone = ARGV[10] == '1', config = ARGV[11],
}

local now_ms = now()
local record = load(keys)
local limits, fault = read_limits(told.config, record.settings)
if not limits then
  return fault
end
local given_back_unseen = told.generation == 0 and told.outcome == 'ignored'

local function answer(word, transition)
  return { word, record.state, record.generation, record.failures, transition or false }
end

if record.generation == 0 or (told.generation ~= record.generation and not given_back_unseen) then
  return answer('stale')
end

if record.state == 'half_open' then
  if tonumber(redis.call('ZSCORE', keys.probes, told.permit_id) or 0) <= now_ms then
    return answer('stale')
  end
  if told.outcome == 'failure' then
    local what = { kind = 'reopened', reason = 'probe failed', reopens = record.reopens + 1 }
    open(keys, record, limits, told, what, now_ms)
    return answer('recorded', 'reopened')
  end
  local successes = record.probe_successes + (told.outcome == 'success' and 1 or 0)
  if told.outcome == 'success' and successes >= limits.probe_successes then
    close(keys, record, { closed_at_ms = now_ms }, now_ms, limits.idle_ms,
      { kind = 'closed', by = told.replica_id, reason = 'probe succeeded' })
    return answer('recorded', 'closed')
  end
  redis.call('ZREM', keys.probes, told.permit_id)
  change(keys, record, { probe_successes = successes }, now_ms, limits.idle_ms)
  return answer('recorded')
end

if record.state == 'open' or given_back_unseen then
  return answer('stale')
end
if told.outcome == 'ignored' then
  return answer('recorded')
end

local changes, reason = count(keys, record, limits, told, now_ms)
record.failures = changes.failures or record.failures
if reason or told.open_for_ms > 0 then
  -- A close that seems to lie in the future, since the clock was set back, is one of just now.
  local flapping = record.closed_at_ms > 0 and math.max(0, now_ms - record.closed_at_ms) < limits.stable_ms
  local what = { kind = 'tripped', reason = reason, reopens = flapping and record.reopens + 1 or 0 }
  open(keys, record, limits, told, what, now_ms)
  return answer('recorded', 'tripped')
end
local event
if told.alone and told.replica_id ~= record.outlier then
  changes.outlier = told.replica_id
  event = { kind = 'outlier', by = told.replica_id, reason = told.error_class }
elseif told.outcome == 'success' and told.replica_id ~= '' and told.replica_id == record.outlier then
  changes.outlier = ''
end
if next(changes) then
  change(keys, record, changes, now_ms, limits.idle_ms, event)
end
return answer('recorded')
