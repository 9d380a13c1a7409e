-- How a circuit that has just closed lets traffic back gradually.
-- @include _draw

-- A ramp begins with this share of the traffic; from nothing a circuit with few calls would find none let through.
local RAMP_BEGINS_AT = 0.1

-- Returns for how much longer the ramp lasts if it holds this permit back, or nil.
local function held_back(record, limits, permit_id, now_ms)
  if limits.ramp_ms == 0 or record.closed_at_ms == 0 or record.mode ~= 'auto' then
    return nil
  end
  local rest_ms = record.closed_at_ms + limits.ramp_ms - now_ms
  -- More than all of it is left where the clock was set back since: nobody knows of how much, so the ramp is over.
  if rest_ms <= 0 or rest_ms > limits.ramp_ms then
    return nil
  end
  local share = math.max((limits.ramp_ms - rest_ms) / limits.ramp_ms, RAMP_BEGINS_AT)
  return drawn(permit_id) >= 1000 * share and rest_ms or nil
end
