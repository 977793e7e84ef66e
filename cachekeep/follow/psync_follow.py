"""Following by PSYNC: the source's RDB file and every command since, byte by byte, as it sends them to a replica.

A stream proves its own continuity, by its history's name (replid) and its offset: after a loss the source either goes
on at the byte where we were, or sends another RDB file, and that begins another generation. The story is here;
psync_capture writes one generation, psync_lane one node's stream. Called by follow.follow.

A moment is when a command came here; at each mark, several times a second, it is exactly what the source had then.
What the source did and did not send before it died is not in it; of a replica as source, what that replica had.
psync_cover says which moments are known.
"""

from __future__ import annotations

import time
from dataclasses import replace

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.catalog_objects import Head
from cachekeep.backup.copy_run import run_id
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.interruptions import Journal, Patience, now_ms
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.survey import survey as look_at
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.topology import Topology, slots_to_read_again, topology
from cachekeep.codec.slots import SLOTS
from cachekeep.domain.blobs import BlobError, BlobFault
from cachekeep.domain.remote import Remote, RemoteError
from cachekeep.follow.chapter import Chapter, open_generation_of
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.psync_capture import Capture, Moved, as_begun, covered_last, positions_in
from cachekeep.follow.psync_lane import Lost, latest_ms
from cachekeep.follow.psync_leaving import Leaving
from cachekeep.follow.psync_stream import Refused, Stream
from cachekeep.follow.psync_time_left import LIMIT, tells_time_left
from cachekeep.follow.types import Choice, FollowOptions

_TICK_S = 0.05
_AT_REST_S = 0.3
_ROLLOVER_AGAIN_S = 60.0
_STORE_WAIT_S, _STORE_LONGEST_S = 0.5, 10.0
# Clocks that differ by so much more or less than when a generation began are not the same: it cannot be gone on with.
_CLOCK_SLACK_MS = 1000
_PASSING = (BlobFault.FULL, BlobFault.UNREACHABLE)


def follow_by_psync(
    remote: Remote,
    survey: Survey,
    repository: Repository,
    options: FollowOptions,
    choice: Choice,
    monitor: Monitor,
    halt: Halt,
    nodes: tuple[Node, ...],
) -> None:
    """Returns when `halt` is set: all is sealed then, and the generation left open, for the next run to go on with.

    nodes: one, or every primary in cluster mode. Raises Refusal in the server's words when PSYNC is refused at first,
    and nothing is left then; RemoteError when the source is away for longer than options.patience_s, sealed as above;
    BlobError (but a full disk and a store out of reach, which are waited for), CatalogError.
    """
    work = _Following(remote, survey, repository, options, choice, monitor, halt, nodes)
    try:
        work.run()
    except Halted:
        work.seal()
    except RemoteError:
        work.seal()
        raise
    finally:
        work.drop()


class _Following:
    """current: what counts. successor: what takes its place once it is covered, at a rollover. leaving: generations
    that wait to be finished until the next one is covered, so that the gap between is known. broken: what the store
    failed in the middle of, to be gone on with. debris: what could not be removed yet."""

    def __init__(
        self,
        remote: Remote,
        survey: Survey,
        repository: Repository,
        options: FollowOptions,
        choice: Choice,
        monitor: Monitor,
        halt: Halt,
        nodes: tuple[Node, ...],
    ) -> None:
        self._remote, self._survey, self._repository, self._options = remote, survey, repository, options
        if tells_time_left(survey.target) and LIMIT not in choice.limits:
            choice = replace(choice, limits=(*choice.limits, LIMIT))
        self._choice, self._monitor, self._halt, self._nodes = choice, monitor, halt, nodes
        self._base: Topology | None = None
        self._current: Capture | None = None
        self._successor: Capture | None = None
        self._broken: Capture | None = None
        self._leaving: list[Leaving] = []
        self._debris: list[str] = []
        self._patience = Patience("psync", options.patience_s, halt, Journal())
        self._known_before: tuple[int, int] | None = None
        self._captured = self._fresh = False
        self._store_wait_s, self._roll_at = _STORE_WAIT_S, 0.0

    def run(self) -> None:
        """Raises Halted, and what follow_by_psync does."""
        self._fresh = True  # the survey is
        self._look_at_slots()
        self._resume()
        while True:
            try:
                if self._broken:
                    self._revive(self._broken)
                elif self._current is None:
                    self._begin({})
                self._tick()
            except BlobError as error:
                if error.fault not in _PASSING:
                    raise
                self._outlast_store(error)

    def seal(self) -> None:
        """Make durable what is here, and leave it open. Raises BlobError, CatalogError."""
        if self._successor:
            self._discard(self._successor)
            self._successor = None
        current, self._current = self._current, None
        if current and current.whole:
            current.end(seal=True)
            current.chapter.journal.event("sealed")
            current.chapter.journal.flush()
        elif current:
            self._discard(current)
        while self._leaving:
            self._leaving.pop(0).finish(None, self._monitor)
        self._sweep()

    def drop(self) -> None:
        """End the threads that are left; after seal there are none."""
        for capture in (self._current, self._successor):
            if capture:
                capture.end(seal=False)

    def _tick(self) -> None:
        self._halt.wait(_TICK_S)
        current = self._current
        if current is None:
            return
        self._captured = self._captured or current.cover.known != self._known_before
        if current.failure:
            self._current = None
            self._failed(current, current.failure)
            return
        if current.whole and (durable := current.cover.durable):
            self._store_wait_s = _STORE_WAIT_S
            self._patience.progressed()
            while self._leaving:
                self._leaving[0].finish(durable[0], self._monitor)
                self._leaving.pop(0)
            self._sweep()
        self._roll_over(current)

    # A new generation takes the place of the old one while both are written.

    def _roll_over(self, current: Capture) -> None:
        successor = self._successor
        if successor is None:
            if self._options.rollover_s and current.cover.durable and time.monotonic() > self._roll_at:
                self._successor = self._new({}, current=False)
        elif successor.failure:
            self._drop_successor(str(successor.failure))
        elif successor.whole and (begun := successor.cover.durable):
            known = current.cover.known
            if known and known[1] >= begun[0]:
                self._take(successor)
                self._leaving.append(Leaving(current.chapter, None, ""))
                current.end(seal=True)

    def _take(self, successor: Capture) -> None:
        self._current, self._successor = successor, None
        self._roll_at = time.monotonic() + self._options.rollover_s
        successor.shared.teller.take_over()

    def _drop_successor(self, why: str) -> None:
        successor, self._successor = self._successor, None
        if successor:
            self._monitor.news(f"the next generation could not be begun, and is tried again: {why}")
            self._roll_at = time.monotonic() + _ROLLOVER_AGAIN_S
            self._discard(successor)

    # What goes wrong.

    def _failed(self, current: Capture, error: BaseException) -> None:
        match error:
            case Lost():
                self._leave(current, error.reason)
                if self._successor:
                    error.stream.close()
                    self._take(self._successor)
                else:
                    self._begin({error.lane: error.stream})
            case Moved():
                self._drop_successor(str(error))
                self._leave(current, str(error))
                self._look_at_slots()
            case Refused() if not self._captured:
                current.end(seal=False)
                if not current.whole:
                    self._remove(current.chapter.name)
                raise error.refusal
            case BlobError() if error.fault in _PASSING:
                current.end(seal=False)
                if current.whole:
                    self._broken = current
                else:
                    self._debris.append(current.chapter.name)
                raise error
            case RemoteError() if not current.whole:
                self._discard(current)
                self._monitor.phase("away", error.what)
                self._patience.outlast(error, lambda: self._remote.connect().close())
                self._look_at_slots()
            case _:
                self._current = current  # to be sealed
                raise error

    def _leave(self, capture: Capture, reason: str) -> None:
        """End it. What it covers stays; without anything covered nothing does."""
        self._monitor.covered(None)
        self._monitor.news(f"a new generation begins: {reason}")
        try:
            capture.end(seal=True)
        except BlobError as error:  # what is durable is enough to be finished, later
            if error.fault not in _PASSING:
                raise
            capture.end(seal=False)
        if covered := covered_last(capture.chapter):
            self._leaving.append(Leaving(capture.chapter, covered[1], reason))
        else:
            self._remove(capture.chapter.name)

    def _outlast_store(self, error: BlobError) -> None:
        """The sources wait unread meanwhile, unconnected: each keeps what its backlog has room for."""
        what = f"{error}; meanwhile the source keeps as many changes as its repl-backlog-size has room for"
        self._monitor.phase("store", what)
        self._halt.wait(self._store_wait_s)
        self._store_wait_s = min(self._store_wait_s * 2, _STORE_LONGEST_S)

    def _revive(self, broken: Capture) -> None:
        """What came and is not durable comes again: the lanes go on from what is."""
        broken.chapter.revive()
        self._broken = None
        self._current = self._go_on(broken.chapter, broken.shared.survey)

    def _discard(self, capture: Capture) -> None:
        capture.end(seal=False)
        self._remove(capture.chapter.name)

    def _remove(self, name: str) -> None:
        try:
            self._repository.remove(name)
        except BlobError as error:
            if error.fault not in _PASSING:
                raise
            self._debris.append(name)

    def _sweep(self) -> None:
        debris, self._debris = self._debris, []
        for name in debris:
            self._remove(name)

    # Beginnings.

    def _resume(self) -> None:
        """Go on with the newest open generation of the source, if there is one of the same nodes."""
        while self._options.resume and (found := open_generation_of(self._repository, self._survey.name, "psync")):
            if found.head is None:
                return
            try:
                chapter = Chapter.resume(self._repository, found.name)
            except CatalogError as error:
                self._monitor.news(f"a new generation begins: {error}")
                return
            positions = positions_in(chapter)
            if any(lane.lane not in positions for lane in found.head.lanes):
                self._repository.remove(found.name)  # not even its RDB files are whole
                continue
            why_not = self._why_not(found.head, latest_ms(chapter))
            if why_not is None:
                chapter.journal.event("resumed")
                self._current = self._go_on(chapter, as_begun(self._survey, found.head))
            elif covered := covered_last(chapter):
                self._monitor.news(f"a new generation begins: {why_not}")
                self._leaving.append(Leaving(chapter, covered[1], why_not))
            else:
                self._repository.remove(found.name)  # nobody can go on with it, and it covers nothing
            return

    def _why_not(self, head: Head, last_ms: int) -> str | None:
        """Why a generation that began so, and came so far, cannot be gone on with; None where it can."""
        now = self._survey
        if {(lane.lane, lane.slots) for lane in head.lanes} != {(node.lane, node.slots) for node in self._nodes}:
            return "the source has other nodes, or other slots on them"
        then = as_begun(now, head)
        if then.target != now.target:
            engine = then.target.engine
            return f"the source was {engine.label} {then.target.version}, and is {now.server}"
        if abs(then.clock_ahead_ms - now.clock_ahead_ms) > _CLOCK_SLACK_MS:
            was_s, is_s = then.clock_ahead_ms / 1000, now.clock_ahead_ms / 1000
            return f"the source's clock was {was_s:.1f} s ahead of this machine's and is {is_s:.1f} s: one was set"
        if last_ms - (now_ms() + then.clock_ahead_ms) > _CLOCK_SLACK_MS:
            return f"its last moment, {moment_text(last_ms)}, has not come yet: the clocks were set back"
        return None

    def _go_on(self, chapter: Chapter, survey: Survey) -> Capture:
        """survey: see Capture.go_on."""
        capture = Capture.go_on(
            self._remote, survey, self._options, self._monitor, self._halt, chapter, self._nodes, self._base
        )
        self._fresh = False  # by the time that a new one is begun
        self._known_before = covered_last(chapter)
        self._roll_at = time.monotonic() + self._options.rollover_s
        return capture

    def _begin(self, streams: dict[str, Stream]) -> None:
        """streams: per lane one that has begun already."""
        try:
            if not self._fresh:
                self._survey = look_at(self._remote)  # it may be another server by now, with another clock
        except RemoteError as error:
            for stream in streams.values():
                stream.close()
            self._monitor.phase("away", error.what)
            self._survey = self._patience.outlast(error, lambda: look_at(self._remote))
            streams = {}
        self._current = self._new(streams, current=True)
        self._known_before = None
        self._roll_at = time.monotonic() + self._options.rollover_s

    def _new(self, streams: dict[str, Stream], *, current: bool) -> Capture:
        self._fresh = False
        try:
            return Capture.begin(
                self._remote,
                self._survey,
                self._repository,
                self._options,
                self._choice,
                self._monitor,
                self._halt,
                self._nodes,
                self._base,
                streams=streams,
                current=current,
            )
        except BaseException:
            for stream in streams.values():
                stream.close()
            raise

    def _look_at_slots(self) -> None:
        """In cluster mode: who has which, once none is on its way."""
        if self._survey.mode != "cluster":
            return
        try:
            base = self._slots_at_rest()
        except RemoteError as error:
            base = self._patience.outlast(error, self._slots_at_rest)
        nodes = []
        for owner in base.owners:
            if owner.slots:
                with self._remote.at(owner.host, owner.port).connect() as connection:
                    nodes.append(Node(owner.host, owner.port, run_id(connection), owner.slots))
        self._base, self._nodes = base, tuple(nodes)

    def _slots_at_rest(self) -> Topology:
        known = [(node.host, node.port) for node in self._nodes]
        before = topology(self._remote, known)
        while True:
            self._halt.wait(_AT_REST_S)
            after = topology(self._remote, known)
            if not slots_to_read_again(before, after) and len(after.owner_of) == SLOTS:
                return after
            self._monitor.phase("starting", "slots are on their way between nodes, or without one")
            before = after
