"""The process that works on the data of snapshots. Started by app.snapshotting; composes backup, blob, remote, host."""
