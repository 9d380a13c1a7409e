-- Only what Redis gives a script exists.
std = "none"
read_globals = {
  "KEYS", "ARGV", "redis", "cjson", "math", "string", "table", "next", "pairs", "ipairs", "tonumber", "tostring",
  "unpack",
}
max_line_length = 120
