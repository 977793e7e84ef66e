"""A new cache that is to begin with data: where the data comes from, and how far it has come. Pure.

Two ways. Seeded: each primary finds its shard's RDB file in its folder at its first start and loads it itself. Filled:
the engines start empty, and the keys are written to them before the cache is said to be available.

The RDB file of an engine that keeps nothing on disk is a pipe: it is loaded while it is read and proved, and its last
bytes come when all of it was proved, so nothing that is damaged is ever loaded to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cachekeep.domain.serverless import serverless_name


@dataclass(frozen=True)
class Seed:
    """An RDB file for a node's first start. path: below the state directory. digest: CRC-32 of its bytes, in hex:
    what it was unpacked from was proved by more, and this tells whether it was touched since; "" for a pipe.

    keys: how many it has, expired ones included; None where nothing tells. bytes: its size, 0 for a pipe.
    """

    path: str
    digest: str
    bytes: int
    keys: int | None = None


class RestorePhase(StrEnum):
    """PREPARE: files are unpacked or fetched, nothing runs. FEED: the engines come up and load from pipes that are
    being written. START: the engines come up. FILL: keys are written."""

    PREPARE = "prepare"
    FEED = "feed"
    START = "start"
    FILL = "fill"


@dataclass(frozen=True)
class Restore:
    """What a new group or cluster is to begin with.

    snapshot: its name; "" for files. generation: of the repository of snapshots; "" until files were taken into it.
    urls: RDB files, `bucket/key`. seeded: see above. lanes: by id of the new shard, the lane of the generation that it
    begins with; empty when filled. temporary: the generation was made for this restore alone and goes after it.
    piped: where it is seeded, by pipes. Not for engines that keep data on disk, which have it from that file on; nor of
    files, which may be cut off: an engine would wait for the rest.
    """

    snapshot: str
    generation: str
    seeded: bool
    lanes: tuple[tuple[str, str], ...] = ()
    urls: tuple[str, ...] = ()
    temporary: bool = False
    phase: RestorePhase = RestorePhase.PREPARE
    piped: bool = False

    @property
    def label(self) -> str:
        """What it begins with, for sentences."""
        return f"snapshot {serverless_name(self.snapshot)}" if self.snapshot else ", ".join(self.urls)
