-- Puts a dead letter back into the stream it came from, in one step.
--
-- KEYS[1] dead-letter stream, KEYS[2] stream it came from; ARGV[1] entry id of the dead letter,
-- ARGV[2] number of fields added behind the original ones
-- Returns the new entry id, or nil if there is no such dead letter.
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return false
end
local command = { 'XADD', KEYS[2], '*' }
local fields = letter[2]
for index = 1, #fields - 2 * tonumber(ARGV[2]) do
  command[#command + 1] = fields[index]
end
if #command == 3 then
  return redis.error_reply('EMPTY this dead letter holds no original field: its entry was trimmed before')
end
local id = redis.call(unpack(command))
redis.call('XDEL', KEYS[1], ARGV[1])
return id
