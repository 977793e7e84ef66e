"""What a copy is asked for, and what it reports. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cachekeep.backup.catalog_objects import Gap, Options

Method = Literal["psync", "scan"]


@dataclass(frozen=True)
class CopyOptions:
    """databases None: all that have keys. patience_s: how long an unreachable source is waited for each time."""

    source: Literal["auto", "psync", "scan"] = "auto"
    databases: frozenset[int] | None = None
    match: bytes | None = None
    count: int = 100
    max_keys_per_s: int | None = None
    patience_s: float = 60
    resume: bool = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count has to be 1 at least, not {self.count}")
        if self.max_keys_per_s is not None and self.max_keys_per_s < 1:
            raise ValueError(f"max_keys_per_s has to be 1 at least, not {self.max_keys_per_s}")
        if self.databases is not None and (not self.databases or min(self.databases) < 0):
            raise ValueError("databases have to be numbers from 0, one at least")

    def described(self, method: Method) -> Options:
        """What of them decides which keys are read: for head.json."""
        wanted = None if self.databases is None else sorted(self.databases)
        match = None if self.match is None else self.match.decode("utf-8", "backslashreplace")
        return {"method": method, "databases": wanted, "match": match}


@dataclass(frozen=True)
class CopyReport:
    """why: one sentence, why this method. keys: records of keys per database; a key that SCAN returned twice, or that
    moved to another node meanwhile, counts twice. With psync they are what the source's INFO counted, and a note says
    so. bytes: stored. skipped: keys per reason, in the server's words. vanished: keys gone before they were read.
    """

    generation: str
    method: Method
    why: str
    verdict: Literal["complete", "gaps"]
    gaps: tuple[Gap, ...]
    keys: dict[int, int]
    bytes: int
    skipped: dict[str, int]
    vanished: int
    interruptions: int
    resumed: bool
    seconds: float
    notes: tuple[str, ...] = ()


class Stopped(Exception):
    """The copy was stopped from outside. What is durable stays; the same command goes on there."""

    def __init__(self, generation: str, resumable: bool) -> None:
        rest = "run it again to resume" if resumable else "nothing of it is kept: run it again"
        super().__init__(f"the copy {generation} was stopped before its end; {rest}")
        self.generation, self.resumable = generation, resumable
