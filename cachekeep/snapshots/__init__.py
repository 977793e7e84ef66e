"""Snapshots and continuous backups: what is wanted stands in the store; here it is had done, and what came of it told.

Services beside control: they read and write the store, and see the data through domain.snapshot_work and
domain.continuous alone.
"""
