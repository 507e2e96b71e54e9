-- One kind of request, again and again, for wrk: `wrk -s request.lua URL -- PAUSE KEYS METHOD PATH BODY [METHOD PATH BODY ...]`.
-- With several kinds, one is taken by chance each time: a kind that comes twice is taken twice as often.
-- The token comes from the environment, so that it stands in no argument. `%d` in a path is replaced by a key below KEYS.
-- Each connection waits PAUSE milliseconds before a request, on average; the wait is no part of what is measured.
local kinds, keys = {}, 0

function init(args)
  wrk.headers["X-Vault-Token"] = os.getenv("BENCH_TOKEN")
  math.randomseed(os.time())
  local pause = tonumber(args[1] or "0")
  keys = tonumber(args[2] or "0")
  for i = 3, #args, 3 do
    local body, headers = args[i + 2], { ["X-Vault-Token"] = wrk.headers["X-Vault-Token"] }
    if body ~= nil and body ~= "" then
      headers["Content-Type"] = "application/json"
    else
      body = nil
    end
    table.insert(kinds, { method = args[i], path = args[i + 1], body = body, headers = headers })
  end
  if pause > 0 then
    function delay()
      return math.random(2 * pause)
    end
  end
end

function request()
  local kind = kinds[1]
  if #kinds > 1 then
    kind = kinds[math.random(#kinds)]
  end
  local where = kind.path
  if keys > 0 then
    where = string.gsub(where, "%%d", tostring(math.random(keys)))
  end
  return wrk.format(kind.method, where, kind.headers, kind.body)
end

function done(summary, latency)
  io.write(string.format("percentiles-us %d %d %d\n", latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
