-- Chance that is the same wherever it is drawn: a number from 0 to 999 for a text.
local function drawn(text)
  local number = 0
  for index = 1, #text do
    number = (number * 31 + string.byte(text, index)) % 1000003
  end
  return number * 7919 % 1000
end
