"""The world outside did not do what was asked. A file of its own: whoever raises it needs nothing else of the ports."""

from __future__ import annotations


class WorldError(Exception):
    """Something outside did not do what was asked: observe again. The text says what, where and what next."""


class NotAskedError(WorldError):
    """The question was never put, by a trouble of this side, or whoever answered is alive and not believed: it says
    nothing against the engine that was to be asked."""
