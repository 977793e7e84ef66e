"""What a backup knows of an outage: what was covered before it, how long it took, what may have been written unseen.

Called by follow.guard. Reads a backup only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.coverage import Stretch
from cachekeep.backup.moments import coverage_of
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey_types import Survey
from cachekeep.follow.guard_herald import Heard
from cachekeep.follow.guard_types import Findings, Outage, Place
from cachekeep.follow.types import FollowMethod, FollowStatus

ANNOUNCED: tuple[FollowMethod, ...] = ("tracking", "keyspace")
_SLACK_MS = 2000
_TOLD_UNKNOWN_MS = 1000


@dataclass(frozen=True)
class Past:
    """covered: the stretch that went on when the upgrade began. gaps: those after it, by the source's clock."""

    covered: Stretch
    outages: tuple[Outage, ...]
    gaps: tuple[Gap, ...]

    @classmethod
    def of(cls, repository: Repository, begun: FollowStatus, began_ms: int) -> Past:
        """begun: how the capture was then; began_ms: when, by the source's clock. Raises CatalogError, BlobError."""
        coverage = coverage_of(repository, repository.generation(begun.generation))
        covered = next(one for one in coverage.stretches if (begun.durable_until_ms or 0) <= one.until_ms)
        lines = GenerationReader.open(repository, begun.generation, unfinished=True).log_lines()
        outages = tuple(
            Outage(line["start_ms"], line["end_ms"], str(line.get("reason", "")), line.get("lane"))
            for line in lines
            if line.get("event") == "interruption" and (line["end_ms"] or line["start_ms"]) >= began_ms
        )
        gaps = tuple(gap for gap in coverage.gaps if gap.end_ms is None or gap.end_ms > covered.until_ms)
        return cls(covered, outages, gaps)

    def doubts(self, method: FollowMethod, before: Survey, after: Survey, found: Findings) -> Iterator[str]:
        """Why a difference may be a write that we could not see, or a loss that we cannot see, as sentences.

        With one of them nothing is put back, and nothing proved.
        """
        if after.role == "replica" and before.role != "replica":
            yield (
                "the endpoint is a replica now, so what it has is what its primary has, at any moment: make it a"
                " primary, or guard its primary"
            )
        if method == "poll" or (method not in ANNOUNCED and found.to_restore):
            yield f"by {method} nobody knows which keys were written since the endpoint came back"
        for gap in self.gaps:
            if not any(_overlaps(gap, outage) for outage in self.outages):
                yield f"continuity was lost while the endpoint was there: {gap.reason}"
        processes = [{node.run_id for node in seen.nodes} for seen in (before, after)]
        if found.to_restore and self.gaps and "" not in processes[0] and processes[0] == processes[1]:
            yield "the same process answers as before: what differs was written while it could not be watched"

    def doubts_of(self, method: FollowMethod, found: Findings, heard: Heard) -> Iterator[str]:
        """The same, of what was heard."""
        if heard.flushed or (heard.everything and found.to_restore):
            yield (
                "a database was emptied, or too much written to hear it all, since the endpoint was back: nobody knows"
                " what was lost"
            )
        if heard.unseen is None and found.to_restore and method in ANNOUNCED:
            yield (
                "nobody knows what clients wrote before anybody listened, for the server that answers now had begun"
                " before the old one was gone, or does not tell: what is missing may be what they deleted"
            )
        if heard.unseen and 0 < found.to_restore <= heard.unseen:
            yield (
                f"clients made {heard.unseen:,} changes in the first moment, before anybody listened, and only"
                f" {found.to_restore:,} keys are missing: these may be what they deleted"
            )

    @property
    def back_ms(self) -> int:
        """When the endpoint answered last after having been away, by the source's clock."""
        return max((one.end_ms or one.start_ms for one in self.outages), default=self.covered.until_ms)

    def notes(self, found: Findings, heard: Heard, written_since: int | None) -> Iterator[str]:
        """What a reader of the report has to know, as sentences."""
        if not self.outages:
            yield "the endpoint was never away while the upgrade went on: was it waited for?"
            return
        unknown_ms = min(one.start_ms for one in self.outages) - self.covered.until_ms
        if unknown_ms > _TOLD_UNKNOWN_MS:
            yield f"writes of the last {unknown_ms / 1000:.1f} s before the outage may be in no backup"
        if heard.unseen and found.to_restore > heard.unseen:
            yield (
                f"clients made {heard.unseen:,} changes in the first moment, before anybody listened: so many of the"
                " keys that are missing may be what they deleted"
            )
        if found["went back"] and heard.unseen != 0:
            count = "an unknown number of" if heard.unseen is None else f"{heard.unseen:,}"
            yield (
                f"the {len(found['went back']):,} keys that went back are kept: clients made {count} changes before"
                " anybody listened, and may have written these values themselves"
            )
        if written_since:
            older = " with older data" if found["went back"] else ""
            yield (
                f"{written_since:,} keys were written by clients after the endpoint was back{older}: they are"
                " kept, also where what was written builds on what was missing then"
            )


def restorable(found: Findings, heard: Heard) -> Findings:
    """What may be put back: keys that are there only where it is certain that no client wrote them unheard."""
    if heard.unseen == 0:
        return found
    lost = found["lost"] if len(found["lost"]) > (heard.unseen or 0) else frozenset[Place]()
    return replace(found, classes={"lost": lost})


def emptied(databases: set[int]) -> Iterator[str]:
    """A doubt, where databases were emptied after the upgrade began."""
    if databases:
        names = ", ".join(str(db) for db in sorted(databases))
        yield (
            f"database {names} was emptied as a whole since the upgrade began: by a client (FLUSHALL), or by a replica"
            " that copied its primary anew; nobody can tell which, so what is not there may be lost"
        )


def _overlaps(gap: Gap, outage: Outage) -> bool:
    """They are of one time."""
    end_ms = outage.start_ms if outage.end_ms is None else outage.end_ms
    return gap.start_ms <= end_ms + _SLACK_MS and (gap.end_ms is None or gap.end_ms >= outage.start_ms - _SLACK_MS)
