-- A different request each time: arguments are a file of payments ("-" for none), then paths in their turn.
-- A path that begins with "$" takes the next payment of the file, "#N" in a path is a number below N.
-- When the payments run out, requests come without one, which the run finds in the answers.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local payments, paths, turn = nil, {}, 0

function init(arguments)
  if arguments[1] ~= "-" then payments = assert(io.open(arguments[1])) end
  for index = 2, #arguments do paths[index - 1] = arguments[index] end
end

function request()
  turn = turn % #paths + 1
  local path = paths[turn]
  local headers = ""
  if path:sub(1, 1) == "$" then
    path = path:sub(2)
    local payment = payments:read("*l")
    if payment then headers = "PAYMENT-SIGNATURE: " .. payment .. "\r\n" end
  end
  path = path:gsub("#(%d+)", function(below) return tostring(math.random(0, below - 1)) end)
  return "GET " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n" .. headers .. "\r\n"
end
