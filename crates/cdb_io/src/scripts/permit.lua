-- Renews the right to trade, if the caller leads, and says which stops are set.
-- ARGV: token, ttl_ms, permit ('' = take it back), the day's result ('' = unchanged), then breaker fields and values.
local lease = redis.call('GET', 'cdb:lease:risk')
if not lease or cjson.decode(lease).token ~= ARGV[1] then return 'not_leader' end
if redis.call('GET', 'cdb:epoch') ~= string.match(ARGV[1], '^(.*):') then return 'epoch_lost' end
if #ARGV > 4 then redis.call('HSET', 'cdb:breaker', unpack(ARGV, 5)) end
if ARGV[4] ~= '' then redis.call('SET', 'cdb:result', ARGV[4]) end
if ARGV[3] == '' then
    redis.call('DEL', 'cdb:permit')
else
    redis.call('SET', 'cdb:permit', ARGV[3], 'PX', ARGV[2])
end
return 'done'
