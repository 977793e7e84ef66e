"""What log delivery needs of the world. Protocols only; adapters live in engine, host, store and notify.

Every call raises WorldError for what may be better at the next try, and ends by itself within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cachekeep.domain.log_delivery import EngineLogRead, LogDelivery, LogLine, Position, SlowRead
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.ports import WorldError


class TooMuch(WorldError):
    """The destination does not take so much at once, however often it is tried. Of a single line: not at all."""


@dataclass(frozen=True)
class LogStream:
    """Where lines of one node go. name: as AWS names the stream, `elasticache/ENGINE/CLUSTER/NODE/LOG-TYPE`."""

    region: str
    delivery: LogDelivery
    name: str


class SlowLogs(Protocol):
    async def read(self, address: Address, run_id: str, number: int) -> SlowRead:
        """The entries from `number` on if the engine's process still is run_id's, else all that it has."""
        ...

    async def forget(self, address: Address) -> None: ...


class EngineLogs(Protocol):
    def read(self, key: NodeKey, since: Position) -> EngineLogRead:
        """Whole lines after `since`, some hundred kB at most; of a new file those that follow the last line read.
        A node without a log: none. Blocks on the disk."""
        ...


class LogDestinations(Protocol):
    async def prepare(self, stream: LogStream) -> None:
        """Make the stream if it is missing, and find out whether it can be written to."""
        ...

    async def deliver(self, stream: LogStream, lines: Sequence[LogLine]) -> int:
        """All of them or an error; then the same lines come again, after TooMuch in smaller numbers. How many of them
        the destination says that it does not keep (too old for it, of the future)."""
        ...


class LogPositions(Protocol):
    """Durable. Block on the disk."""

    def load(self, key: NodeKey, log_type: str) -> Position: ...

    def save(self, key: NodeKey, log_type: str, position: Position) -> None: ...

    def keep_only(self, wanted: Sequence[tuple[NodeKey, str]]) -> None:
        """Forget all others."""
        ...
