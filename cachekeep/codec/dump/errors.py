"""What goes wrong with a payload, and with a value that a server cannot hold."""

from __future__ import annotations


class DumpError(ValueError):
    """The bytes are no payload of DUMP that this codec reads. Says what is wrong with them."""


class Unrepresentable(ValueError):
    """The target server has no way to hold the value. Says which part, and from which version on it could."""
