-- A circuit as field, value, field, value: the hash itself, and after it what the clock makes of it, which counts
-- where both name a field. Reads only. A mode whose time is over is shown as auto, although the record keeps it until
-- the next command that may write.
local function view(record_key, probes_key, now_ms)
  local fields = redis.call('HGETALL', record_key)
  local live = redis.call('ZRANGE', probes_key, '(' .. now_ms, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  local computed = {
    'now_ms', tostring(now_ms),
    'probes_out', tostring(redis.call('ZCOUNT', probes_key, '(' .. now_ms, '+inf')),
    'probe_until_ms', live[2] or '0',
    'replicas', tostring(redis.call('PUBSUB', 'NUMSUB', record_key .. ':changes')[2]),
  }
  for _, text in ipairs(computed) do
    fields[#fields + 1] = text
  end
  local mode_until_ms = tonumber(redis.call('HGET', record_key, 'mode_until_ms') or 0)
  if mode_until_ms > 0 and mode_until_ms <= now_ms then
    for _, text in ipairs({ 'mode', 'auto', 'mode_reason', '', 'mode_actor', '', 'mode_until_ms', '0' }) do
      fields[#fields + 1] = text
    end
  end
  return fields
end
