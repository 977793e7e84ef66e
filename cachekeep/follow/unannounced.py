"""What a node changes without a word: consumer groups, functions, whole databases, and whether it announces at all.

It is looked for twice a second; what was looked at, and read if need be, is captured up to the look. Called by
follow.lane, in its thread.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from cachekeep.domain.remote import understood
from cachekeep.follow.choose import why_deaf
from cachekeep.follow.crew import Crew, Member
from cachekeep.follow.key_source import KeySource
from cachekeep.follow.watch import Counters, Seen

_LOOK_S = 0.5
_UNCOUNTED_S = 10.0


class Unannounced:
    """Of one connection's life. captured_ms: everything of this sort until then was handed over."""

    def __init__(self, source: KeySource, crew: Crew, lane: Member) -> None:
        self._source, self._crew, self._lane = source, crew, lane
        self._counters, self._deaf = Counters(), None  # type: Counters, str | None
        self._groups_wanted = False
        self._groups_read_at = self._groups_took_s = 0.0
        self._looked_at, self._looked_ms = time.monotonic(), lane.now_ms()
        self.captured_ms = 0
        deaf, _ = self._ask()
        self._deaf, self._identity = deaf, _identity(source)
        self.read_functions()
        if deaf:
            crew.monitor.news(f"{lane.label}: {deaf}; nothing is covered until that is mended")
        else:
            self.captured_ms = self._looked_ms

    def look_now_and_then(self, *, at_once: bool = False) -> None:
        """Raises RemoteError, BlobError, CatalogError."""
        if time.monotonic() - self._looked_at < _LOOK_S and not at_once:
            return
        before_ms, self._looked_ms = self._looked_ms, self._lane.now_ms()
        deaf, seen = self._ask()
        self._looked_at = time.monotonic()
        if self._crew.method != "poll":
            self._heed(seen, deaf, before_ms)
        if self._deaf is None and not self._groups_wanted:
            self.captured_ms = self._looked_ms

    def read_functions(self) -> None:
        payload = self._source.functions()
        if payload is not None:
            for volume in self._crew.volumes():
                volume.functions(payload, self._looked_ms, self._lane.name)

    def _ask(self) -> tuple[str | None, Seen]:
        side, crew = self._source.side, self._crew
        with understood(side.address):
            deaf = why_deaf(side, crew.patterns) if crew.method == "keyspace" else None
            return deaf, self._counters.look(side)

    def _heed(self, seen: Seen, deaf: str | None, before_ms: int) -> None:
        crew, lane = self._crew, self._lane
        if deaf != self._deaf:
            self._deaf = deaf
            lane.sweeps.restart()
            crew.doubt(lane, before_ms, deaf or "the server announced nothing for a while")
        if what := self._unheard_of(seen):
            lane.sweeps.restart()
            crew.doubt(lane, before_ms, what)
        if seen.functions:
            self.read_functions()
        if self._groups_are_due(seen):
            self._read_streams()

    def _unheard_of(self, seen: Seen) -> str | None:
        """What was done that may have changed keys without a word; None when nothing was."""
        by_events = self._crew.method == "keyspace"
        before, self._identity = self._identity, _identity(self._source)
        if before != self._identity:
            return (
                f"the server took another part in replication ({before or 'unknown'} to {self._identity or 'unknown'})"
            )
        if seen.swapped:
            return "SWAPDB was done, which nothing announces"
        if seen.flushed and by_events:
            return "FLUSHDB or FLUSHALL was done, which nothing announces"
        if seen.configured and by_events:
            return "CONFIG SET was done, which may have silenced notifications for a moment"
        return None

    def _groups_are_due(self, seen: Seen) -> bool:
        if seen.unknown:
            self._crew.monitor.note(
                f"{self._lane.label} does not tell INFO commandstats: streams are read again every {_UNCOUNTED_S:g} s,"
                " and a flush or swap of databases shows only in the passes over all keys"
            )
        # Where groups change all the time, no more than a tenth of the time is spent on them.
        wait_s = max(_UNCOUNTED_S if seen.unknown else 0.0, 10 * self._groups_took_s)
        self._groups_wanted = self._groups_wanted or seen.streams or seen.unknown
        # What a pass will find is not to be told as announced.
        waits = self._lane.sweeps.has(None, "gap")
        return self._groups_wanted and not waits and time.monotonic() - self._groups_read_at >= wait_s

    def _read_streams(self) -> None:
        began = time.monotonic()
        for volume in self._crew.volumes():
            for db, keys in volume.index.streams():
                mine = [key for key in keys if self._lane.had(key)]
                records, refused = self._source.records(db, mine)
                volume.changed([replace(one, captured_ms=self._looked_ms) for one in records], self._lane.name)
                self._lane.refused(db, refused)
        self._groups_wanted = False
        self._groups_read_at = time.monotonic()
        self._groups_took_s = self._groups_read_at - began


def _identity(source: KeySource) -> str:
    """Whose data the server has: another role, primary or history may mean other data without a word."""
    told = source.info("replication")
    names = ("role", "master_replid", "master_host", "master_port", "master_link_status")
    return " ".join(told[name] for name in names if name in told)
