-- Publishes exactly one answer to one entry of cdb:orders and acknowledges it, if the caller leads.
-- ARGV[1]: {token, entry, kind: verdict|replay|dead, cl_ord_id?, day?, fingerprint?, keep_s, symbol?, strategy?}
--   symbol and strategy are given for an approved order: a stop that was set meanwhile makes it 'stopped'.
-- ARGV[2], ARGV[3]: json and sig of a verdict; reason and text of a dead letter
-- ARGV[4]: bytes of a dead letter, base64
local request = cjson.decode(ARGV[1])
local lease = redis.call('GET', 'cdb:lease:risk')
if not lease or cjson.decode(lease).token ~= request.token then return 'not_leader' end

-- Nothing pending under this id: an earlier call did everything and only its reply was lost.
local pending = redis.call('XPENDING', 'cdb:orders', 'cdb_risk', request.entry, request.entry, 1)
if #pending == 0 then return 'done_before' end

if request.kind == 'dead' then
    local time = redis.call('TIME')
    local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
    redis.call('XADD', 'cdb:dead', '*', 'stream', 'cdb:orders', 'entry', request.entry, 'reason', ARGV[2],
        'text', ARGV[3], 'bytes', ARGV[4], 'ts', now)
elseif request.kind == 'replay' then
    local known = redis.call('HGET', 'cdb:seen:' .. request.day, request.cl_ord_id)
    local verdict_id = known and string.match(known, ':(.+)$')
    local original = verdict_id and redis.call('XRANGE', 'cdb:verdicts', verdict_id, verdict_id)[1]
    if not original then return 'original_gone' end
    redis.call('XADD', 'cdb:verdicts', '*', unpack(original[2]))
else
    if request.symbol and (redis.call('EXISTS', 'emergency_stop') == 1
        or redis.call('EXISTS', 'emergency_stop:symbol:' .. request.symbol) == 1
        or redis.call('EXISTS', 'emergency_stop:strategy:' .. request.strategy) == 1) then
        return 'stopped'
    end
    local id = redis.call('XADD', 'cdb:verdicts', '*', 'json', ARGV[2], 'sig', ARGV[3])
    if request.fingerprint then
        local key = 'cdb:seen:' .. request.day
        redis.call('HSET', key, request.cl_ord_id, request.fingerprint .. ':' .. id)
        redis.call('EXPIRE', key, request.keep_s)
    end
end
redis.call('XACK', 'cdb:orders', 'cdb_risk', request.entry)
return 'done'
