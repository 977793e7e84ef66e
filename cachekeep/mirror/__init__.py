"""Living copies: what changes at a source is written into a group of ours, key by key, until that takes over.

For migrations from a source that no engine may follow by replication, or into a group in cluster mode; and for the
secondaries of global datastores in cluster mode. The room stands above `follow`, whose lanes hear of changed keys and
read them; here they go to engines instead of a backup. Doors: `service.Mirroring` and `regional.RegionalMirroring`, run
by the app.
"""
