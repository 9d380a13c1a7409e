-- What a closed circuit counts, and when that says that it should trip.
-- @include _record
-- @include _window

-- For so long a replica that saw a failure in a row is a witness. A run has no window, but a failure of last week, of a
-- replica that is long gone, says nothing of today.
local RUN_SPAN_MS = 3600000

-- What tells the id of a failure in a row from a rate's bucket.
local RUN = 'run:'

-- Forgets the failures in a row, and who saw them unless a rate asks that too.
local function end_run(keys, now_ms)
  local buckets, ids = read_window(keys, now_ms)
  for _, id in ipairs(ids) do
    redis.call('HDEL', keys.window, id)
  end
  if #buckets == 0 then
    redis.call('DEL', keys.reporters)
  end
end

-- Counts failures in a row. Returns what changes in the record, and why the circuit should trip, or nil.
local function count_run(keys, record, limits, told, now_ms)
  if told.outcome == 'success' then
    if record.run == 0 then
      return {}
    end
    end_run(keys, now_ms)
    return { run = 0, failures = 0 }
  end
  if redis.call('HEXISTS', keys.window, RUN .. told.permit_id) == 1 then
    return {}
  end
  local run = record.run + 1
  if run < limits.consecutive then
    -- No more ids than a run may be long: beyond that the circuit waits for more reporters, not for more failures.
    redis.call('HSET', keys.window, RUN .. told.permit_id, now_ms)
  end
  return { run = run, failures = run, last_error = told.error_class },
    run >= limits.consecutive and run .. ' consecutive failures' or nil
end

-- Counts for a rate. Counts change with every report, so they are neither a revision nor a message: nobody's answer
-- depends on them. Returns what changes in the record besides, and why the circuit should trip, or nil.
local function count_rate(keys, record, limits, told, now_ms)
  local sums = count_in_window(keys, limits, told, now_ms)
  record.failures = sums.failures
  redis.call('HSET', keys.record, 'calls', sums.calls, 'failures', sums.failures, 'slow_calls', sums.slow)
  if told.outcome == 'failure' then
    redis.call('HSET', keys.record, 'last_error', told.error_class)
  end
  if redis.call('PTTL', keys.window) < limits.idle_ms / 2 then
    expire(keys, record, now_ms, limits.idle_ms)
  end
  local changes = {}
  if record.run > 0 and told.calls > told.failures + told.slow then
    -- One of the calls was good, so what others count in a row is over.
    end_run(keys, now_ms)
    changes.run = 0
  end
  if sums.calls < limits.minimum_calls then
    return changes
  end
  if limits.failure_percent > 0 and sums.failures * 100 >= limits.failure_percent * sums.calls then
    return changes, sums.failures .. ' of ' .. sums.calls .. ' calls failed'
  end
  if limits.slow_percent > 0 and sums.slow * 100 >= limits.slow_percent * sums.calls then
    return changes, sums.slow .. ' of ' .. sums.calls .. ' calls were slow'
  end
  return changes
end

-- Whether enough replicas saw failures or slow calls in the time that counts.
local function has_quorum(keys, limits, now_ms)
  local since_ms = now_ms - (limits.consecutive > 0 and RUN_SPAN_MS or limits.window_ms)
  return limits.minimum_reporters == 1
    or redis.call('ZCOUNT', keys.reporters, '(' .. since_ms, '+inf') >= limits.minimum_reporters
end

-- Returns what changes in the record (field to value), and why the circuit should trip, or nil.
local function count(keys, record, limits, told, now_ms)
  if (told.outcome == 'failure' or told.slow > 0) and told.replica_id ~= '' then
    redis.call('ZADD', keys.reporters, now_ms, told.replica_id)
    -- Kept for as long as anybody may ask, whose window is another.
    redis.call('ZREMRANGEBYSCORE', keys.reporters, '-inf', now_ms - math.max(RUN_SPAN_MS, limits.window_ms))
    if redis.call('PTTL', keys.reporters) == -1 then
      expire(keys, record, now_ms, limits.idle_ms)
    end
  end
  local counted = limits.consecutive > 0 and count_run or count_rate
  local changes, reason = counted(keys, record, limits, told, now_ms)
  return changes, reason and has_quorum(keys, limits, now_ms) and reason or nil
end
