#!lua flags=allow-oom
-- Gives an upload up that no verb took over, and leaves one alone that a verb did.
-- KEYS  1 generation (see parts/base)
-- ARGV  1-3 see parts/base; 4 reference (parts/objects)
-- Result  1 where it was given up
-- include: base
-- include: objects
if not take_object(ARGV[4]) then return 0 end
drop_object(ARGV[4])
return 1
