-- How a circuit is shown.
-- @include _fields

-- A circuit as texts by field: the hash, over it the changes (field to value) that are about to be written to it, and
-- over both what the clock makes of them. Reads only. A mode whose time is over is shown as auto, although the record
-- keeps it until the next command that may write.
local function view(keys, now_ms, changes)
  local shown = {}
  local fields = redis.call('HGETALL', keys.record)
  for index = 1, #fields, 2 do
    shown[fields[index]] = fields[index + 1]
  end
  for field, value in pairs(changes) do
    shown[field] = value
  end
  for _, field in ipairs(NUMBERS) do
    shown[field] = tostring(number_in(shown[field]))
  end
  shown.state, shown.mode, shown.now_ms = state_in(shown.state), mode_in(shown.mode), tostring(now_ms)
  -- Probes belong to their generation, so there is nothing to say of one that begins.
  if not changes.generation then
    local live = redis.call('ZRANGE', keys.probes, '(' .. now_ms, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    shown.probes_out = tostring(redis.call('ZCOUNT', keys.probes, '(' .. now_ms, '+inf'))
    shown.probe_until_ms = tostring(number_in(live[2]))
  end
  shown.replicas = tostring(redis.call('PUBSUB', 'NUMSUB', keys.record .. ':changes')[2])
  local mode_until_ms = tonumber(shown.mode_until_ms)
  if mode_until_ms > 0 and mode_until_ms <= now_ms then
    shown.mode, shown.mode_reason, shown.mode_actor, shown.mode_until_ms = 'auto', '', '', '0'
  end
  return shown
end

-- The reply that shows a circuit as it is now.
local function view_reply(keys, now_ms)
  local reply = { 'view' }
  for field, text in pairs(view(keys, now_ms, {})) do
    reply[#reply + 1] = field
    reply[#reply + 1] = text
  end
  return reply
end
