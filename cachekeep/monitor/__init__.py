"""Collects metrics, judges them, evaluates alarms and tells subscribers."""
