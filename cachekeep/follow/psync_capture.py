"""One generation of replication streams while it is written: its lanes, and in cluster mode a look at who has which
slots. Called by psync_follow.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head
from cachekeep.backup.coverage import stretches
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.psync import Position
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.topology import Topology, slots_to_read_again, topology
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Remote, RemoteError, RemoteFault
from cachekeep.follow.chapter import Chapter
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.psync_cover import Cover
from cachekeep.follow.psync_lane import Lane, Shared
from cachekeep.follow.psync_stream import Stream
from cachekeep.follow.psync_teller import Teller
from cachekeep.follow.types import Choice, FollowOptions

_LOOK_EVERY_S = 0.5


class Moved(Exception):
    """Slots have another owner, or are on their way to one: streams of several nodes are no whole any more."""


class Inner(Halt):
    """Ends the threads of one generation; a wish to end all ends them too."""

    def __init__(self, outer: Halt) -> None:
        super().__init__()
        self._outer = outer

    def check(self) -> None:
        self._outer.check()
        super().check()


class Capture:
    """nodes: its lanes. base: who had which slots when it began; None: no cluster. rdb_since: see `begin`."""

    def __init__(
        self,
        shared: Shared,
        nodes: Sequence[Node],
        starts: Mapping[str, Position | Stream],
        base: Topology | None,
    ) -> None:
        self.shared, self.nodes, self._base = shared, tuple(nodes), base
        self.chapter, self.cover = shared.chapter, shared.cover
        self._lanes = [Lane(shared, node, starts.get(node.lane)) for node in nodes]
        self._told_whole = False
        self._watch = threading.Thread(target=self._watch_slots, name="psync-slots", daemon=True) if base else None
        if self._watch:
            self._watch.start()
        for lane in self._lanes:
            lane.begin()

    @classmethod
    def begin(
        cls,
        remote: Remote,
        survey: Survey,
        repository: Repository,
        options: FollowOptions,
        choice: Choice,
        monitor: Monitor,
        halt: Halt,
        nodes: Sequence[Node],
        base: Topology | None,
        *,
        streams: Mapping[str, Stream],
        current: bool,
    ) -> Capture:
        """A new generation. streams: per lane one that has begun already. Raises BlobError."""
        chapter = Chapter.begin(repository, survey, nodes, choice)
        cover = Cover([node.lane for node in nodes], limited=base is not None)
        teller = Teller(monitor, chapter.name, current=current)
        return cls(Shared(remote, survey, options, chapter, cover, teller, Inner(halt)), nodes, streams, base)

    @classmethod
    def go_on(
        cls,
        remote: Remote,
        survey: Survey,
        options: FollowOptions,
        monitor: Monitor,
        halt: Halt,
        chapter: Chapter,
        nodes: Sequence[Node],
        base: Topology | None,
    ) -> Capture:
        """An open generation, from what of each lane is durable: every lane has to have a position.

        survey: of now, with the engine and the clock as they were when it began (see `as_begun`).
        """
        cover = Cover([node.lane for node in nodes], limited=base is not None)
        cover.go_on(covered_last(chapter))
        teller = Teller(monitor, chapter.name, current=True)
        shared = Shared(remote, survey, options, chapter, cover, teller, Inner(halt))
        return cls(shared, nodes, positions_in(chapter), base)

    @property
    def failure(self) -> BaseException | None:
        return self.shared.failure

    @property
    def whole(self) -> bool:
        """Every lane's RDB file is durable: it can be gone on with, whatever happens."""
        found = all(lane.whole for lane in self._lanes)
        if found and not self._told_whole:
            self._told_whole = True
            self.shared.teller.whole()
        return found

    def end(self, *, seal: bool) -> None:
        """End its threads; make durable what they have. Else that is dropped. Raises BlobError, CatalogError."""
        self.shared.halt.set()
        for lane in self._lanes:
            lane.end()
        if self._watch:
            self._watch.join()
        try:
            for lane in self._lanes if seal else ():
                lane.seal()
            if seal and self.cover.unclaimed:
                self._lanes[0].seal(anyway=True)
        finally:
            for lane in self._lanes:
                lane.abandon()

    def _watch_slots(self) -> None:
        shared, base = self.shared, self._base
        known = [(node.host, node.port) for node in self.nodes]
        try:
            while base:
                asked_ms = now_ms() + shared.survey.clock_ahead_ms
                try:
                    seen = topology(shared.remote, known)
                except RemoteError as error:
                    if error.fault is not RemoteFault.UNREACHABLE:
                        raise
                else:
                    if moved := slots_to_read_again(base, seen):
                        raise Moved(f"{len(moved)} slots moved to another node, or are about to")
                    shared.cover.allow(asked_ms)
                shared.halt.wait(_LOOK_EVERY_S)
        except Halted:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever looks after the capture
            shared.fail(error)


def as_begun(survey: Survey, head: Head) -> Survey:
    """The survey with the engine and the clock that the generation began with: what is added has to go with that."""
    target = replace(survey.target, engine=Engine(head.engine), version=EngineVersion.parse(head.engine_version))
    return replace(survey, target=target, clock_ahead_ms=head.source_began_ms - head.began_ms)


def positions_in(chapter: Chapter) -> dict[str, Position]:
    """Per lane what is durable; a lane whose RDB file is not is left out. Raises ValueError for what is no position."""
    return {entry.lane: Position.parse(entry.position) for entry in chapter.writer.entries if entry.position}


def covered_last(chapter: Chapter) -> tuple[int, int] | None:
    found = stretches(chapter.writer.entries)
    return (found[-1].since_ms, found[-1].until_ms) if found else None
