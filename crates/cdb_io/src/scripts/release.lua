-- Gives a lease back in order. ARGV: role, holder.
local key = 'cdb:lease:' .. ARGV[1]
local held = redis.call('GET', key)
if held and cjson.decode(held).holder == ARGV[2] then return redis.call('DEL', key) end
return 0
