"""Benchmarks of what Cachekeep promises about speed and memory: `python -m benchmarks` prints measured against target.

Not part of the tests: figures depend on the machine and on what else it does. Everything runs on an installation
of its own (state directory, port, loopback range) and leaves nothing behind.
"""
