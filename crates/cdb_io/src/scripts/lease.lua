-- Takes or renews a lease. The token is the data set's epoch and a counter that only grows: a paused former leader
-- comes back with a token that no script accepts any more.
-- ARGV: role, holder, ttl_ms. Returns the token, 'held' or 'no_epoch'.
local role, holder, ttl = ARGV[1], ARGV[2], ARGV[3]
local key = 'cdb:lease:' .. role
local held = redis.call('GET', key)
if held then
    local lease = cjson.decode(held)
    if lease.holder ~= holder then return 'held' end
    redis.call('PEXPIRE', key, ttl)
    return lease.token
end
local epoch = redis.call('GET', 'cdb:epoch')
if not epoch then return 'no_epoch' end
local token = epoch .. ':' .. redis.call('INCR', 'cdb:fence:' .. role)
redis.call('SET', key, '{"holder":"' .. holder .. '","token":"' .. token .. '"}', 'PX', ttl)
return token
