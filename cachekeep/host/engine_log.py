"""Why an engine ended, from what it wrote. Pure; used by host.scratch.

Source: rdb.c and server.c of Redis 6.2 and 7.0, Valkey 8.1 and 9.1, and what they said to broken files.
"""

from __future__ import annotations

import re

_WARNING = re.compile(r"^\d+:[A-Z] .+? # (.+)$", re.MULTILINE)
_LOAD = re.compile(
    r"Can't handle RDB|Wrong signature|module|checksum|CRC|Short read|Unknown RDB|Internal error|Error reading"
    r"|corrupt|number of databases|integrity",
    re.IGNORECASE,
)
_NEWER = re.compile(r"Can't handle RDB format version (\d+)")
_MODULE = re.compile(r"no matching module type '([^']+)'|module.*?'([A-Za-z0-9_-]{9})'")
_LONGEST = 300


def reason_of_end(log: str, code: int) -> str:
    """A clause of what was wrong and what to do. code: the exit code."""
    warnings = [line.strip() for line in _WARNING.findall(log)]
    if newer := _NEWER.search(log):
        return f"it is of RDB version {newer.group(1)}, which this engine does not know; install a newer one"
    if module := _MODULE.search(log):
        name = module.group(1) or module.group(2)
        return f"it holds values of the module type {name}, which this engine has not; read them where the module is"
    told = next((line for line in warnings if _LOAD.search(line)), None)
    if told is not None:
        return f"{told[:_LONGEST].rstrip('.')}; the file is damaged, or no RDB file for this engine"
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it said nothing")
    ended = f"it was killed by signal {code - 128}" if code > 128 else f"it ended with exit code {code}"
    return f"{ended} ({last[:_LONGEST]}); check memory and disk"
