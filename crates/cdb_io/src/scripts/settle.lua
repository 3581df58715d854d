-- What cdb_execution does after an answer, in one step: free the rate slots one window from here, publish, mark the
-- claim final, acknowledge the verdict. A process that no longer leads does none of it.
-- ARGV[1]: {token, nonce?, budgets: [{name, window_ms, weight}], answered?: cl_ord_id, final?: cl_ord_id, keep_s,
--           verdict_entry?}
-- ARGV[2..]: messages for cdb:executions
local request = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local lease = redis.call('GET', 'cdb:lease:execution')
if not lease or cjson.decode(lease).token ~= request.token then return 'not_leader' end

for _, budget in ipairs(request.budgets) do
    local free_at = string.format('%.0f', now + budget.window_ms)
    for unit = 1, budget.weight do
        redis.call('ZADD', 'cdb:rate:' .. budget.name, 'XX', free_at, request.nonce .. ':' .. unit)
    end
end
for index = 2, #ARGV do redis.call('XADD', 'cdb:executions', '*', 'json', ARGV[index]) end
if request.final then
    redis.call('SET', 'cdb:claim:' .. request.final, '{"final":true}', 'EX', request.keep_s)
    redis.call('SREM', 'cdb:claims:open', request.final)
end
-- The probe has done its work with the first answer that is no doubt; a resting order must not keep the place.
if request.answered and redis.call('GET', 'cdb:breaker:probe') == request.answered then
    redis.call('DEL', 'cdb:breaker:probe')
end
if request.verdict_entry then redis.call('XACK', 'cdb:verdicts', 'cdb_execution', request.verdict_entry) end
return 'done'
