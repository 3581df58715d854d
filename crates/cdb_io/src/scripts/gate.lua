-- Atomic admission before a send. Specification: cdb_core::gate; change both or neither.
-- Reads everything first and writes only when all say yes. The one exception is the clock's own bookkeeping.
-- Keys that this service may only read are literals here, so that its ACL can say so.
-- ARGV[1]: {token, nonce, recv_window_ms, boot_id, boot_ms, is_confirmed, hold_ms, budgets: [{name, limit, window_ms, weight}],
--           order?: {cl_ord_id, symbol, strategy, epoch, limits_hash, expires_at, is_exit, exchange_offset_ms, fence_margin_ms, wire}}
local request = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local order = request.order
local whole = function(number) return string.format('%.0f', number) end

local lease = redis.call('GET', 'cdb:lease:execution')
if not lease or cjson.decode(lease).token ~= request.token then return {'not_leader'} end

local claim_key
if order then
    claim_key = 'cdb:claim:' .. order.cl_ord_id
    local held = redis.call('GET', claim_key)
    if held then
        local claim = cjson.decode(held)
        if claim.token == request.token and claim.nonce == request.nonce then return {'granted', held} end
        return {'refused', 'already_claimed'}
    end
    if redis.call('EXISTS', 'emergency_stop') == 1
        or redis.call('EXISTS', 'emergency_stop:symbol:' .. order.symbol) == 1
        or redis.call('EXISTS', 'emergency_stop:strategy:' .. order.strategy) == 1 then
        return {'refused', 'emergency_stop'}
    end
    local permit = redis.call('GET', 'cdb:permit')
    if not permit then return {'refused', 'permit_missing'} end
    permit = cjson.decode(permit)
    if permit.epoch ~= order.epoch or permit.limits_hash ~= order.limits_hash
        or permit.run_id ~= RUN_ID or permit.wire ~= order.wire then
        return {'refused', 'permit_missing'}
    end
end

local is_probe = false
if order then
    local breaker = redis.call('HGET', 'cdb:breaker', 'state')
    if not order.is_exit and breaker ~= 'closed' then
        if breaker ~= 'half_open' or redis.call('EXISTS', 'cdb:breaker:probe') == 1 then
            return {'refused', 'circuit_open'}
        end
        is_probe = true
    end
    if now >= order.expires_at then return {'refused', 'expired'} end
end

-- Redis's clock is wall time. Against the host's boot time a step of it shows: then every window starts anew and
-- nothing is granted for the longest of them. One late call looks like a step too, so the caller confirms. A new Redis
-- process may have forgotten the last grants: it holds as well.
local clock = redis.call('HMGET', 'cdb:rate:clock', 'boot_id', 'offset', 'hold_until', 'run_id')
local offset = now - request.boot_ms
if clock[1] then
    local is_same_process = clock[4] == RUN_ID
    local is_same = clock[1] == request.boot_id and math.abs(offset - tonumber(clock[2])) <= 50
    if not is_same or not is_same_process then
        if is_same_process and not request.is_confirmed then return {'clock'} end
        for _, name in ipairs(redis.call('SMEMBERS', 'cdb:rate:names')) do redis.call('DEL', 'cdb:rate:' .. name) end
        redis.call('HSET', 'cdb:rate:clock', 'boot_id', request.boot_id, 'offset', whole(offset), 'run_id', RUN_ID,
            'hold_until', whole(request.boot_ms + request.hold_ms))
        return {'wait', whole(request.hold_ms)}
    end
end
local wait = 0
if clock[3] then wait = math.max(wait, tonumber(clock[3]) - request.boot_ms) end

local ban = redis.call('GET', 'cdb:ban')
if ban then wait = math.max(wait, tonumber(ban) - now) end

for _, budget in ipairs(request.budgets) do
    local key = 'cdb:rate:' .. budget.name
    local used = redis.call('ZCOUNT', key, '(' .. whole(now), '+inf')
    local over = used + budget.weight - budget.limit
    if over > 0 then
        local slot = redis.call('ZRANGEBYSCORE', key, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', over - 1, 1)
        if slot[2] then
            wait = math.max(wait, tonumber(slot[2]) - now)
        else
            wait = math.max(wait, budget.window_ms)
        end
    end
end
if wait > 0 then return {'wait', whole(wait)} end

for _, budget in ipairs(request.budgets) do
    local key = 'cdb:rate:' .. budget.name
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
    local free_at = whole(now + request.recv_window_ms + budget.window_ms)
    for unit = 1, budget.weight do redis.call('ZADD', key, free_at, request.nonce .. ':' .. unit) end
    redis.call('SADD', 'cdb:rate:names', budget.name)
end
redis.call('HSET', 'cdb:rate:clock', 'boot_id', request.boot_id, 'offset', whole(offset), 'run_id', RUN_ID)
if not order then return {'granted'} end

local timestamp = now + order.exchange_offset_ms
local claim = '{"token":"' .. request.token .. '","nonce":"' .. request.nonce .. '","granted_at":' .. whole(now)
    .. ',"timestamp":' .. whole(timestamp) .. ',"recv_window":' .. whole(request.recv_window_ms)
    .. ',"final_after":' .. whole(timestamp + request.recv_window_ms + order.fence_margin_ms) .. '}'
redis.call('SET', claim_key, claim)
redis.call('SADD', 'cdb:claims:open', order.cl_ord_id)
if is_probe then redis.call('SET', 'cdb:breaker:probe', order.cl_ord_id) end
return {'granted', claim}
