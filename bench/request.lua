-- One kind of request, again and again, for wrk: `wrk -s request.lua URL -- METHOD PATH BODY KEYS PAUSE`.
-- The token comes from the environment, so that it stands in no argument. `%d` in PATH is replaced by a key below KEYS.
-- Each connection waits PAUSE milliseconds before a request, on average; the wait is no part of what is measured.
local method, path, body, keys

function init(args)
  method, path, body, keys = args[1], args[2], args[3], tonumber(args[4] or "0")
  wrk.headers["X-Vault-Token"] = os.getenv("BENCH_TOKEN")
  if body ~= nil and body ~= "" then
    wrk.headers["Content-Type"] = "application/json"
  else
    body = nil
  end
  math.randomseed(os.time())
  local pause = tonumber(args[5] or "0")
  if pause > 0 then
    function delay()
      return math.random(2 * pause)
    end
  end
end

function request()
  local where = path
  if keys > 0 then
    where = string.format(path, math.random(keys))
  end
  return wrk.format(method, where, nil, body)
end
