"""One generation while a source is followed: begun or gone on with, its gaps noted, finished. Called by all methods.

A capture that is stopped leaves its generation open: the next run goes on with it. It is finished when another takes
its place, or when nothing can go on with it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from cachekeep.backup.catalog import CatalogError, CatalogFault, Generation, Repository, Status
from cachekeep.backup.catalog_objects import Gap, Head, Lane
from cachekeep.backup.interruptions import Journal, now_ms
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.writer import GenerationWriter
from cachekeep.domain.engine import Engine
from cachekeep.follow.types import Choice, FollowGap


class Chapter:
    """writer: None of it is shared with another run. journal: its log. gaps: all, those of earlier runs too."""

    def __init__(
        self, repository: Repository, writer: GenerationWriter, earlier: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.repository, self.writer, self.journal = repository, writer, Journal()
        self.journal.generation = writer
        self.journal.remember(earlier)
        self.gaps: list[Gap] = [
            Gap(start_ms=line["start_ms"], end_ms=line["end_ms"], reason=line["reason"], lane=line.get("lane"))
            for line in earlier
            if line.get("event") == "gap"
        ]
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.writer.name

    @classmethod
    def begin(cls, repository: Repository, survey: Survey, nodes: Sequence[Node], choice: Choice) -> Chapter:
        """A new one. Raises BlobError."""
        began_ms = now_ms()
        head = Head(
            source=survey.name,
            engine="valkey" if survey.target.engine is Engine.VALKEY else "redis",
            engine_version=str(survey.target.version),
            mode=survey.mode,
            lanes=tuple(Lane(lane=node.lane, run_id=node.run_id, slots=node.slots) for node in nodes),
            databases={str(db): size.keys for db, size in sorted(survey.databases.items())},
            began_ms=began_ms,
            source_began_ms=began_ms + survey.clock_ahead_ms,
            options={
                "method": "psync" if choice.method == "psync" else "scan",
                "databases": None,
                "match": None,
                "follow": choice.method,
                "limits": list(choice.limits),
            },
        )
        return cls(repository, GenerationWriter.begin(repository, head))

    @classmethod
    def resume(cls, repository: Repository, name: str) -> Chapter:
        """Go on with an open one. Raises CatalogError, BlobError."""
        lines = list(GenerationReader.open(repository, name, unfinished=True).log_lines())
        return cls(repository, GenerationWriter.resume(repository, name), lines)

    def revive(self) -> None:
        """After an error of the store: know again what is durable, and go on there. Raises CatalogError, BlobError."""
        self.writer = GenerationWriter.resume(self.repository, self.name)
        self.journal.generation = self.writer

    def still_there(self) -> None:
        """Raises CatalogError(ABSENT) when somebody removed the generation: nothing is written into the void."""
        if not self.repository.blobs.exists(f"{self.name}/head.json"):
            what = f"{self.name} was removed while it was written"
            raise CatalogError(CatalogFault.ABSENT, what, "begin again; what was captured is gone with it")

    def gap(self, gap: FollowGap) -> None:
        """Note one that has ended (end_ms), or in which the capture ends. Durable with the journal's next flush."""
        with self._lock:
            self.gaps.append(Gap(start_ms=gap.start_ms, end_ms=gap.end_ms, reason=gap.reason, lane=gap.lane))
        self.journal.event("gap", start_ms=gap.start_ms, end_ms=gap.end_ms, reason=gap.reason, lane=gap.lane)

    def finish(self, *, whole: bool) -> None:
        """The verdict, last. whole: its end has everything of the source. Raises BlobError, CatalogError."""
        gaps = [gap for gap in self.gaps if gap.end_ms is None]
        if not whole and not gaps:
            gaps = [Gap(start_ms=now_ms(), end_ms=None, reason="the capture ended before everything was copied")]
        self.journal.flush()
        self.writer.finish([] if whole else gaps, skipped=self.journal.skipped, vanished=self.journal.vanished)


def open_generation_of(repository: Repository, source: str, method: str) -> Generation | None:
    """The newest generation of the source that was followed by that method, if it is open."""
    own = [
        one
        for one in repository.generations()
        if one.head and one.head.source == source and one.head.options.get("follow") == method
    ]
    return own[-1] if own and own[-1].status is Status.OPEN else None


__all__ = ["CatalogError", "Chapter", "open_generation_of"]
