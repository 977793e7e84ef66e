"""The processes that work on the data of snapshots, and those that keep captures of groups going.

Started by app.snapshot_worker and app.capture_worker; they compose backup, follow, blob, remote and host.
"""
