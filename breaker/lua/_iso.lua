-- A moment in ms as ISO 8601 text in UTC, for people. The sandbox has no os.date; the calendar arithmetic is Howard
-- Hinnant's civil_from_days (https://howardhinnant.github.io/date_algorithms.html), for moments from 1970 on.
local function iso(at_ms)
  local days = math.floor(at_ms / 86400000) + 719468
  local era = math.floor(days / 146097)
  local day_of_era = days - era * 146097
  local year_of_era = math.floor(
    (day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524) - math.floor(day_of_era / 146096))
      / 365)
  local day_of_year = day_of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local month_index = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * month_index + 2) / 5) + 1
  local month = month_index < 10 and month_index + 3 or month_index - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  local rest_ms = at_ms % 86400000
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(rest_ms / 3600000),
    math.floor(rest_ms / 60000) % 60, math.floor(rest_ms / 1000) % 60, rest_ms % 1000)
end
