-- One kind of request, again and again, for wrk: `wrk -s request.lua URL -- METHOD PATH BODY KEYS`.
-- The token comes from the environment, so that it stands in no argument. `%d` in PATH is replaced by a key of 1 to KEYS.
-- At the end one line for the bench to read: `bench REQUESTS REFUSED BROKEN P50 P99 P99.9 DURATION`, times in microseconds.
local method, path, body, keys
-- Requests as they are sent. Made once: what wrk spends here is missing on the same processor for the server.
local ready = {}

function init(args)
  method, path, body, keys = args[1], args[2], args[3], tonumber(args[4] or "0")
  wrk.headers["X-Vault-Token"] = os.getenv("BENCH_TOKEN")
  if body ~= nil and body ~= "" then
    wrk.headers["Content-Type"] = "application/json"
  else
    body = nil
  end
  math.randomseed(os.time())
end

function request()
  local key = keys > 0 and math.random(keys) or 0
  local made = ready[key]
  if made == nil then
    made = wrk.format(method, keys > 0 and string.format(path, key) or path, nil, body)
    ready[key] = made
  end
  return made
end

function done(summary, latency, requests)
  local e = summary.errors
  local broken = e.connect + e.read + e.write + e.timeout
  io.write(string.format("bench %d %d %d %.0f %.0f %.0f %d\n", summary.requests, e.status, broken,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), summary.duration))
end
