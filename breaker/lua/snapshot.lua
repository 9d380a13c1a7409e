#!lua flags=no-writes
-- Reads a circuit and changes nothing.
-- KEYS[1] record: hash of the circuit
-- KEYS[2] probes: sorted set, probe token to lease deadline in ms
-- Replies
--   view, field, value, field, value, ...
--   absent
-- Cost: O(fields + log probes), no writes.
-- @include _now
-- @include _view
local record_key, probes_key = KEYS[1], KEYS[2]

if redis.call('EXISTS', record_key) == 0 then
  return { 'absent' }
end
local reply = { 'view' }
for _, text in ipairs(view(record_key, probes_key, now())) do
  reply[#reply + 1] = text
end
return reply
