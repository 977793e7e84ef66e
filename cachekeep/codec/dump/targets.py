"""What a server of some version can load. Pure.

Source: src/rdb.h of each release (RDB_VERSION, RDB_TYPE_*, RDB_VERSION_MAP); checked against servers of 6.2, 7.0, 8.1
and 9.1. Redis 7.4 and newer read everything up to RDB 11, which is what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.codec.dump.errors import Unrepresentable
from cachekeep.domain.engine import Engine, EngineVersion

_OPEN = 11  # the last version that Redis and Valkey share
RDB_VERSIONS: Mapping[Engine, tuple[tuple[tuple[int, int], int], ...]] = {
    Engine.REDIS: (((4, 0), 8), ((5, 0), 9), ((7, 0), 10), ((7, 2), _OPEN)),
    Engine.VALKEY: (((7, 2), _OPEN), ((9, 0), 80)),
}

# Type: the first version of RDB that has it. Type 6 is of 4.0's release candidates; nothing loads it.
_SINCE_RDB: Mapping[int, int] = {
    **dict.fromkeys((0, 1, 2, 3, 4, 9, 10, 11, 12, 13), 1),
    14: 7,
    5: 8,
    7: 8,
    15: 9,
    **dict.fromkeys((16, 17, 18, 19), 10),
    **dict.fromkeys((20, 21), 11),
    22: 80,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server that values are to be written to; only the first two numbers of its version count."""

    engine: Engine
    version: EngineVersion

    def __post_init__(self) -> None:
        if not self.engine.speaks_resp:
            raise ValueError(f"{self.engine.label} has no DUMP")

    @property
    def number(self) -> tuple[int, int]:
        return self.version.major, self.version.minor

    @property
    def expires_fields(self) -> bool:
        """True when hashes have HPEXPIREAT: Valkey 9.0, Redis 7.4."""
        return self.number >= ((9, 0) if self.engine is Engine.VALKEY else (7, 4))

    @property
    def counts_stream_entries(self) -> bool:
        """True when streams know entries added and read, and the highest deleted id: since 7.0."""
        return self.number >= (7, 0)

    def __str__(self) -> str:
        return f"{self.engine.label} {self.version.short}"


def rdb_version_of(target: Target) -> int:
    """Return the newest RDB version that the target accepts in a footer. Raises Unrepresentable before 4.0."""
    for since, version in reversed(RDB_VERSIONS[target.engine]):
        if target.number >= since:
            return version
    raise Unrepresentable(f"{target} is too old to be written to: Redis 4.0 is the oldest")


def loadable(rdb_type: int, target: Target) -> bool:
    """True when the target's RESTORE knows the type, which is a payload's first byte, once its footer fits.

    A value of a module (type 7) also needs the module there.
    """
    since = _SINCE_RDB.get(rdb_type)
    return since is not None and since <= rdb_version_of(target)
