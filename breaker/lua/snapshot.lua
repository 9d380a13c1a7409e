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
local keys = { record = KEYS[1], probes = KEYS[2] }

if redis.call('EXISTS', keys.record) == 0 then
  return { 'absent' }
end
return view_reply(keys, now())
