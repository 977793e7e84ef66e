"""Log delivery: slow logs and engine logs of nodes are read and brought where their groups and clusters want them.

A room of its own beside monitor: it reads other things of other places, and neither holds up the other.
"""
