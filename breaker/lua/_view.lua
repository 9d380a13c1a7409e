-- A circuit as field, value, field, value: the hash itself, and what the clock makes of it. Reads only.
-- A mode whose time is over is shown as auto, although the record keeps it until the next command that may write.
local function view(record_key, probes_key, now_ms)
  local fields = redis.call('HGETALL', record_key)
  local mode_over = false
  for index = 1, #fields, 2 do
    if fields[index] == 'mode_until_ms' then
      local mode_until_ms = tonumber(fields[index + 1])
      mode_over = mode_until_ms > 0 and mode_until_ms <= now_ms
    end
  end
  if mode_over then
    local without = { mode = 'auto', mode_reason = '', mode_actor = '', mode_until_ms = '0' }
    for index = 1, #fields, 2 do
      fields[index + 1] = without[fields[index]] or fields[index + 1]
    end
  end
  local live = redis.call('ZRANGE', probes_key, '(' .. now_ms, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  local computed = {
    'now_ms', tostring(now_ms),
    'probes_out', tostring(redis.call('ZCOUNT', probes_key, '(' .. now_ms, '+inf')),
    'probe_until_ms', live[2] or '0',
    'replicas', tostring(redis.call('PUBSUB', 'NUMSUB', record_key .. ':changes')[2]),
  }
  for index = 1, #computed do
    fields[#fields + 1] = computed[index]
  end
  return fields
end
