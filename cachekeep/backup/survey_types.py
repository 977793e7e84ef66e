"""What was found out about an endpoint before anything is read from it. Made by backup.survey; data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from cachekeep.codec.dump import Target


class Ability(StrEnum):
    """What a backup may need of a server, by the command that it is."""

    DUMP = "DUMP"
    RESTORE = "RESTORE"
    PEXPIRETIME = "PEXPIRETIME"
    SCRIPTS = "EVAL"
    PSYNC = "PSYNC"
    NO_TOUCH = "CLIENT NO-TOUCH"
    NO_EVICT = "CLIENT NO-EVICT"
    WATCH = "WATCH"
    FUNCTIONS = "FUNCTION DUMP"
    OBJECT = "OBJECT ENCODING"
    MEMORY = "MEMORY USAGE"
    TIME = "TIME"


@dataclass(frozen=True)
class Node:
    """One node that holds keys: the server itself, or a primary in cluster mode. slots: ranges [first, last].

    run_id is empty where INFO does not tell it. host is empty for the server that was asked.
    """

    host: str
    port: int
    run_id: str
    slots: tuple[tuple[int, int], ...] = ()

    @property
    def lane(self) -> str:
        """How a backup names it: an address that stays readable; `only` for a server that stands alone."""
        return f"{self.host}:{self.port}" if self.host else "only"


@dataclass(frozen=True)
class DatabaseSize:
    """As INFO KEYSPACE counts, keys that have expired and are still there among them."""

    keys: int
    expires: int


@dataclass(frozen=True)
class Survey:
    """One look at an endpoint. denied: for each ability that it has not, why, as a sentence.

    databases: summed over the nodes. clock_ahead_ms: the server's clock minus this machine's. modules: their names.
    database_limit: how many databases it has; None where it does not tell.
    """

    name: str
    target: Target
    server: str
    mode: Literal["standalone", "cluster"]
    role: Literal["primary", "replica"]
    nodes: tuple[Node, ...]
    databases: Mapping[int, DatabaseSize]
    denied: Mapping[Ability, str]
    clock_ahead_ms: int
    used_bytes: int
    modules: tuple[str, ...] = ()
    database_limit: int | None = None
    eviction: str | None = None

    def can(self, ability: Ability) -> bool:
        return ability not in self.denied

    @property
    def keys(self) -> int:
        """In all databases."""
        return sum(size.keys for size in self.databases.values())
