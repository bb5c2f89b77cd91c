-- Ends the script unless the caller holds the lease of the stream; see lease.lua. Prepended to the
-- scripts that change a stream.
--
-- KEYS[LEASE] the lease; KEYS[LEASE + 1] the caller's tenure stream, named after the lease, the
-- caller and its epoch. Without these two keys the stream is shared between engines, and nothing is
-- checked.
if KEYS[LEASE] then
  local known = redis.call('HMGET', KEYS[LEASE], 'holder', 'epoch')
  local present = KEYS[LEASE] .. ':' .. (known[1] or '') .. ':' .. (known[2] or '')
  if present ~= KEYS[LEASE + 1] then
    return redis.error_reply('LEASE another engine holds the stream, or none does')
  end
end

