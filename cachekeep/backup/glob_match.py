"""The server's glob (KEYS, SCAN MATCH) as a test on keys of a backup. Pure.

`*` any bytes, `?` one byte, `[a-z]`, `[^a]`, `\\` before a byte that means itself. Source: src/util.c stringmatchlen.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ANY = b"*"


def matcher(glob: bytes) -> Callable[[bytes], object]:
    """Return a function whose answer is true for keys that the glob matches."""
    parts: list[bytes] = [b""]
    for token in _tokens(glob):
        if token == _ANY:
            parts.append(b"")
        else:
            parts[-1] += token
    if len(parts) == 1:
        return re.compile(parts[0] + rb"\Z", re.DOTALL).match
    # Between stars the first place that fits is always right: an atomic group never comes back to it, so that no
    # glob takes more than the square of a key's length.
    inner = b"".join(b"(?>.*?" + part + b")" for part in parts[1:-1] if part)
    return re.compile(parts[0] + inner + b".*" + parts[-1] + rb"\Z", re.DOTALL).match


def _tokens(glob: bytes) -> list[bytes]:
    """The glob's pieces as regular expressions; a star as itself."""
    tokens: list[bytes] = []
    at, end = 0, len(glob)
    while at < end:
        byte = glob[at : at + 1]
        at += 1
        if byte == _ANY:
            tokens.append(_ANY)
        elif byte == b"?":
            tokens.append(b".")
        elif byte == b"[":
            token, at = _class(glob, at)
            tokens.append(token)
        else:
            if byte == b"\\" and at < end:
                byte = glob[at : at + 1]
                at += 1
            tokens.append(re.escape(byte))
    return tokens


def _class(glob: bytes, at: int) -> tuple[bytes, int]:
    """What follows `[`, and where it ends. As on the server, one that is never closed ends with the glob."""
    end = len(glob)
    inverted = glob[at : at + 1] == b"^"
    at += inverted
    allowed = set[int]()
    while at < end and glob[at : at + 1] != b"]":
        if glob[at : at + 1] == b"\\" and at + 1 < end:
            allowed.add(glob[at + 1])
            at += 2
        elif glob[at + 1 : at + 2] == b"-" and at + 2 < end:
            low, high = sorted((glob[at], glob[at + 2]))
            allowed.update(range(low, high + 1))
            at += 3
        else:
            allowed.add(glob[at])
            at += 1
    if inverted:
        allowed = set(range(256)) - allowed
    if not allowed:
        return b"(?!)", at + 1
    return b"[" + b"".join(b"\\x%02x" % one for one in sorted(allowed)) + b"]", at + 1
