-- The hash of what is counted: a rate's calls in time buckets, and beside them the ids of failures in a row. A circuit
-- may have both, and buckets of several widths, during a rolling deploy or while an operator's settings hold.
-- @include _fields

-- The window moves on by a tenth of itself, so the memory stays at ten buckets whatever the traffic.
local BUCKETS = 10

-- Whether a bucket lies in the window that ends now and is ten times as long as that width.
local function in_window(began_ms, width_ms, now_ms)
  return began_ms > now_ms - now_ms % width_ms - width_ms * BUCKETS and began_ms <= now_ms
end

-- Returns what is in the buckets (a list of began_ms, width_ms, part, amount) and the other fields, which are ids. A
-- bucket is named by its moment and by its width, which tells how far back whoever wrote it looks: when it is out of
-- that window it is deleted, by whomever.
local function read_window(keys, now_ms)
  local buckets, ids = {}, {}
  local fields = redis.call('HGETALL', keys.window)
  for index = 1, #fields, 2 do
    local began, width, part = string.match(fields[index], '^(%d+):(%d+):(%a+)$')
    if not began then
      ids[#ids + 1] = fields[index]
    elseif in_window(tonumber(began), tonumber(width), now_ms) then
      buckets[#buckets + 1] = { began_ms = tonumber(began), width_ms = tonumber(width), part = part,
        amount = number_in(fields[index + 1]) }
    else
      redis.call('HDEL', keys.window, fields[index])
    end
  end
  return buckets, ids
end

-- Adds to the bucket of now, and adds up what lies in the window, whoever told of it: calls, failures, slow.
local function count_in_window(keys, limits, told, now_ms)
  local width_ms = math.floor(limits.window_ms / BUCKETS)
  local began_ms = now_ms - now_ms % width_ms
  local sums, current = { calls = 0, failures = 0, slow = 0 }, {}
  for _, each in ipairs((read_window(keys, now_ms))) do
    if sums[each.part] and in_window(each.began_ms, width_ms, now_ms) then
      sums[each.part] = sums[each.part] + each.amount
      if each.began_ms == began_ms and each.width_ms == width_ms then
        current[each.part] = each.amount
      end
    end
  end
  for part, sum in pairs(sums) do
    if told[part] > 0 then
      -- Not HINCRBY, which would fail at what a hand has made of the bucket.
      redis.call('HSET', keys.window, began_ms .. ':' .. width_ms .. ':' .. part, (current[part] or 0) + told[part])
      sums[part] = sum + told[part]
    end
  end
  return sums
end
