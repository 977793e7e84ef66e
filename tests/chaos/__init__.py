"""Chaos: writers that remember what was acknowledged, while engines and the service are killed and changes asked for.

`python -m tests.chaos --seed N --seconds 120` runs it; the scenario tests use its writers and its oracle.
"""
