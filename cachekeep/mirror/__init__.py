"""A living copy: what changes at a server outside is written into a group of ours, key by key, until it takes over.

For migrations from a source that no engine may follow by replication, or into a group in cluster mode. The room stands
above `follow`, whose lanes hear of changed keys and read them; here they go to engines instead of a backup. Doors:
`service.Mirroring`, run by the app.
"""
