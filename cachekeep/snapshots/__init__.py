"""Snapshots: what is wanted of them stands in the store; this service has it carried out, and writes down what came.

A service beside control: it reads and writes the store, and sees the data through domain.snapshot_work alone.
"""
