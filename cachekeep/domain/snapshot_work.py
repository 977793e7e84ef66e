"""Work on the data of snapshots: orders, what comes of them, and the door to whoever carries them out. Pure.

An order is carried out by a process of its own, which ends with the service; each may be given again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachekeep.domain.nodes import Address
from cachekeep.domain.world import WorldError


@dataclass(frozen=True)
class CopyNode:
    """A node to be read. shard: its id. slots: ranges [first, last], () without cluster mode."""

    shard: str
    address: Address
    slots: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class CopyOrder:
    """Read these nodes into a new generation, and read that back. endpoints: primaries, for a copy without a fork."""

    nodes: tuple[CopyNode, ...]
    endpoints: tuple[Address, ...]


@dataclass(frozen=True)
class VerifyOrder:
    """Read every byte of a generation."""

    generation: str


@dataclass(frozen=True)
class UnpackOrder:
    """Write the RDB files of lanes as `<shard>.rdb` into the staging folder of that name. lanes: (shard, lane)."""

    generation: str
    lanes: tuple[tuple[str, str], ...]
    folder: str


@dataclass(frozen=True)
class FeedOrder:
    """Write the RDB files of lanes into pipes, each as often as an engine begins to read it, until it is ended.

    An engine gets the last bytes only after all were proved. lanes: (lane, path of its pipe).
    """

    generation: str
    lanes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TakeInOrder:
    """Make a generation of RDB files: bucket/key of each."""

    urls: tuple[str, ...]


@dataclass(frozen=True)
class FillOrder:
    """Write every key of a generation to an endpoint; in cluster mode the others are found from there."""

    generation: str
    endpoint: Address


@dataclass(frozen=True)
class ExportOrder:
    """Write an RDB file of each lane into a bucket as `<name>-<shard>.rdb`. lanes: (shard, lane)."""

    generation: str
    lanes: tuple[tuple[str, str], ...]
    bucket: str
    name: str


@dataclass(frozen=True)
class RemoveOrder:
    """Remove generations and staging folders."""

    generations: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepOrder:
    """Remove what nobody refers to and nobody will: unfinished generations, those made of files, staging folders.

    generations, folders: those to keep. Only while no other order is carried out. A finished generation stays: it may
    be of a store that was lost.
    """

    generations: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


Order = (
    CopyOrder | VerifyOrder | UnpackOrder | FeedOrder | TakeInOrder | FillOrder | ExportOrder | RemoveOrder | SweepOrder
)


@dataclass(frozen=True)
class LaneDone:
    """One shard's data. path, digest: of the RDB file, where one was written."""

    shard: str
    lane: str
    bytes: int
    used_bytes: int = 0
    keys: int | None = None
    path: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of an order; only what it is about is filled in. engine, version: of whoever wrote the files."""

    generation: str = ""
    method: str = ""
    rdb_version: int = 0
    engine: str = ""
    version: str = ""
    databases: tuple[int, ...] = ()
    lanes: tuple[LaneDone, ...] = ()
    keys: int = 0


class WorkFailed(WorldError):
    """An order was not carried out. again: the same order may succeed later, as when a node went away."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class SnapshotWorker(Protocol):
    async def work(self, order: Order, began: Callable[[str], None]) -> Outcome:
        """Carry it out. began: called with the generation that is being written, before its first byte.

        Raises WorkFailed. Cancelled, it ends whatever it started.
        """
        ...

    def pipes(self, folder: str, shards: Sequence[str]) -> Mapping[str, str]:
        """New pipes in the staging folder of that name: the path of each shard's. Those of before stay as they are:
        an engine that was to read one must not find nothing there, and begin empty. Raises WorkFailed."""
        ...
