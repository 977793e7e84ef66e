"""A source followed key by key: its lanes, what of its time is covered, and the generations that are written.

Continuity is claimed while every lane is connected, and every key was read at least once since it was lost last. What
is claimed goes up to the oldest watermark of the lanes; a segment that is closed says it, and only then it counts.
Called by follow.follow, in its thread; lanes have threads of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.survey_types import Ability, Node, Survey
from cachekeep.codec.slots import slot_of
from cachekeep.domain.blobs import BlobError, BlobFault
from cachekeep.domain.remote import Remote, RemoteError, RemoteFault
from cachekeep.follow.chapter import Chapter, open_generation_of
from cachekeep.follow.cluster import Cluster
from cachekeep.follow.lane import Lane
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.signals import Changed
from cachekeep.follow.types import Choice, FollowGap, FollowMethod, FollowOptions
from cachekeep.follow.volume import Volume

_TICK_S = 0.05
_STORE_WAIT_S, _STORE_LONGEST_S = 0.2, 5.0
_PASSING = (BlobFault.FULL, BlobFault.UNREACHABLE, BlobFault.FORBIDDEN)


@dataclass
class _Gap:
    since_ms: int
    reason: str
    lane: str | None


@dataclass
class _Book:
    """A volume and what of its time is claimed. since_ms None: continuity is not proved. gap: the one that goes on."""

    volume: Volume
    since_ms: int | None = None
    until_ms: int | None = None
    gap: _Gap | None = None
    began: float = field(default_factory=time.monotonic)
    # Of polling: since when the pass goes on (None: it has ended), and when the next one begins.
    pass_began: float | None = field(default_factory=time.monotonic)
    next_pass: float = 0.0


class KeyFollow:
    """See lane.Crew for what lanes see of it."""

    def __init__(
        self,
        remote: Remote,
        survey: Survey,
        repository: Repository,
        options: FollowOptions,
        choice: Choice,
        monitor: Monitor,
        stop: threading.Event,
    ) -> None:
        self.remote, self.survey, self.options, self.monitor = remote, survey, options, monitor
        self.method: FollowMethod = choice.method
        self.patterns, self.halt = choice.patterns, Halt()
        self._repository, self._choice, self._stop = repository, choice, stop
        self._books: list[_Book] = []
        self._lanes: dict[str, Lane] = {}
        self._cluster = Cluster(remote, survey) if survey.mode == "cluster" else None
        self._lock = threading.RLock()
        self._store = threading.Condition()
        self._store_error: BlobError | CatalogError | None = None
        self._store_fatal: BaseException | None = None
        self._proved_at, self._proved_ms = time.monotonic(), None  # type: float, int | None
        self._homeless: dict[Changed, float] = {}
        self._proving, self._proof_began_ms = False, None  # type: bool, int | None
        self._told: Callable[[], None] = lambda: None

    def run(self, tick: Callable[[], None]) -> None:
        """Until `stop`: then everything is sealed. tick: called some ten times a second.

        Raises RemoteError: the source is away for too long, or refuses; BlobError, CatalogError: the repository does.
        """
        self._told = tick
        try:
            self._begin()
            while not self._stop.is_set():
                self._tick()
                tick()
                self._stop.wait(_TICK_S)
            self._end_lanes()
            self._seal("sealed")
        except Halted:
            self._raise_fatal()
            raise
        except BaseException:
            self.halt.set()
            self._join()
            self._seal_what_is()
            raise
        finally:
            self.halt.set()
            with self._store:
                self._store.notify_all()
            self._join()
            for book in self._books:
                book.volume.close()

    # What lanes see

    def volumes(self) -> list[Volume]:
        with self._lock:
            return [book.volume for book in self._books]

    def came_back(self, lane: Lane, lost_ms: int | None, reason: str) -> None:
        now = lane.now_ms()
        if lost_ms is not None:
            with self._lock:
                for book in self._books:
                    book.volume.chapter.journal.interruption(lane.name, lost_ms, now, reason)
            self.monitor.news(f"{lane.label} is back after {(now - lost_ms) / 1000:.1f} s; all its keys are read again")
        for book in self._all_books():
            lane.sweep(book.volume, "gap" if book.volume.base_done else "base")

    def doubt(self, lane: Lane, since_ms: int | None, reason: str) -> None:
        for book in self._all_books():
            self._open_gap(book, since_ms, reason, lane.name)
            if lane.connected:
                lane.sweep(book.volume, "gap" if book.volume.base_done else "base")

    def missed(self, lane: Lane, keys: int) -> None:
        self.monitor.missed(keys)
        reason = f"{keys} changes were never announced; a pass over all keys found them"
        self.monitor.news(f"{lane.label}: {reason}")
        with self._lock:
            for book in self._books:
                if book.since_ms is not None and book.until_ms is not None:
                    # Entries have claimed it already: what was not true of that is said in the log.
                    start = max(book.since_ms, self._proved_ms or 0)
                    fields = {"start_ms": start, "end_ms": book.until_ms, "reason": reason, "lane": lane.name}
                    book.volume.chapter.journal.event("doubt", **fields)
                    if book is self._books[0]:
                        self.monitor.gap(FollowGap(start, book.until_ms, reason, lane.name))
                self._open_gap(book, None, reason, lane.name)

    def elsewhere(self, lane: Lane, keys: dict[Changed, float]) -> None:
        """Hand them to the lane that has their slots now; until it has read them nothing more is covered."""
        assert self._cluster is not None  # noqa: S101 - only there
        self._cluster.look_soon()
        for changed, since in keys.items():
            name = self._cluster.owner_of(slot_of(changed[1]))
            with self._lock:
                other = self._lanes.get(name or "")
            if other is not None and other.hear({changed: since}):
                lane.hold(other)
            elif not lane.hear({changed: since}):
                with self._lock:
                    self._homeless[changed] = since
            else:
                lane.hold(lane)

    def has_passed(self, moment_ms: int) -> bool:
        with self._lock:
            return not self._homeless and all((lane.watermark_ms or 0) > moment_ms for lane in self._lanes.values())

    def is_gone(self, lane: Lane) -> bool:
        with self._lock:
            return self._cluster is not None and self._lanes.get(lane.name) is not lane

    def store_failed(self, error: BlobError | CatalogError) -> None:
        with self._store:
            if self._store_error is None:
                self._store_error = error
            while self._store_error is not None and self._store_fatal is None:
                self._store.wait(0.2)
                self.halt.check()
            if self._store_fatal is not None:
                raise self._store_fatal

    def skip(self, db: int, key: bytes, reason: str) -> None:
        for volume in self.volumes():
            volume.chapter.journal.skip(db, key, reason)
        self.monitor.note(f"a key could not be read: {reason}; `backup show` names such keys")

    # The thread of the whole

    def _begin(self) -> None:
        found = open_generation_of(self._repository, self.survey.name, self.method) if self.options.resume else None
        if found is not None:
            try:
                self._resume(found.name)
            except CatalogError as error:
                self.monitor.note(f"the open backup {found.name} was not gone on with: {error.what}")
        if not self._books:
            self._books.append(self._new_book())
        self.monitor.phase("copying")
        nodes = self._cluster.nodes() if self._cluster else list(self.survey.nodes)
        for node in nodes:
            self._add_lane(node)

    def _resume(self, name: str) -> None:
        volume = self._volume(Chapter.resume(self._repository, name))
        try:
            volume.reload()
        except BaseException:
            volume.close()
            raise
        book = _Book(volume)
        if volume.last_covered_ms is not None:
            book.gap = _Gap(volume.last_covered_ms, "nobody followed the source", None)
        volume.chapter.journal.event("resumed")
        self.monitor.generation(name)
        self._books.append(book)

    def _new_book(self) -> _Book:
        nodes = self._cluster.nodes() if self._cluster else list(self.survey.nodes)
        volume = self._volume(Chapter.begin(self._repository, self.survey, nodes, self._choice))
        self.monitor.generation(volume.name)
        return _Book(volume)

    def _volume(self, chapter: Chapter) -> Volume:
        exact = self.survey.can(Ability.PEXPIRETIME) or self.survey.can(Ability.SCRIPTS)
        lag_s = self.options.max_lag_s
        cluster = self.survey.mode == "cluster"
        return Volume(chapter, self.monitor, lag_s, self.options.heartbeat_s, cluster=cluster, exact=exact)

    def _add_lane(self, node: Node) -> Lane:
        lane = Lane(node, self)
        with self._lock:
            self._lanes[lane.name] = lane
        lane.start()
        return lane

    def _tick(self) -> None:
        self._raise_fatal()
        try:
            if self._cluster is not None:
                self._follow_topology(self._cluster)
            self._claim()
            self._roll()
            self._prove_now_and_then()
            self._roll_over()
        except (BlobError, CatalogError) as error:
            with self._store:
                self._store_error = self._store_error or error
        if self._store_error is not None:
            self._await_store()
        self._show()

    def _raise_fatal(self) -> None:
        for lane in self._all_lanes():
            if lane.error is not None and not isinstance(lane.error, Halted):
                raise lane.error
        if self._store_fatal is not None:
            raise self._store_fatal

    def _show(self) -> None:
        lanes = self._all_lanes()
        self.monitor.queue(sum(lane.waiting for lane in lanes))
        away = [lane.label for lane in lanes if lane.was_connected and not lane.connected]
        newest = self._books[-1]
        if away:
            self.monitor.phase("away", f"waiting for {', '.join(away)}")
        elif newest.since_ms is None and len(self._books) == 1:
            self.monitor.phase("reconciling" if newest.volume.base_done else "copying")
        else:
            self.monitor.phase("following")
        shown = self._books[0]
        since, until = shown.since_ms, shown.until_ms
        self.monitor.covered((since, until) if since is not None and until is not None else None)

    # What is covered

    def _claim(self) -> None:
        lanes = self._all_lanes()
        if not lanes or not all(lane.connected for lane in lanes):
            return
        marks = [lane.watermark_ms for lane in lanes]
        for book in self._all_books():
            if any(lane.sweeping(book.volume) for lane in lanes) or None in marks:
                continue
            until = min(mark for mark in marks if mark is not None)
            if self.method == "poll":
                self._claim_point(book, until)
                continue
            with self._lock:
                if book.since_ms is None:
                    # What passes wrote is of the moment of writing: it has to lie before what is claimed.
                    if until < max(lane.swept_ms for lane in lanes):
                        continue
                    if book.gap is not None and until <= book.gap.since_ms:
                        continue
                    self._continuous(book, until)
                if book.until_ms is None or until > book.until_ms:
                    first, book.until_ms = book.until_ms is None, until
                    book.volume.cover(book.since_ms or until, until)
                    if first:  # soon durable: whoever waits for continuity need not wait for more changes
                        book.volume.roll()

    def _claim_point(self, book: _Book, until: int) -> None:
        """The end of a pass of every lane can be restored. The next pass leaves the source time to breathe."""
        now = time.monotonic()
        if book.pass_began is None:
            if now >= book.next_pass:
                book.pass_began = now
                for lane in self._all_lanes():
                    lane.sweep(book.volume, "gap")
            return
        took_s = now - book.pass_began
        with self._lock:
            before = book.until_ms
            if book.since_ms is None:
                self._continuous(book, until)
                self.monitor.news(
                    f"a pass takes {took_s:.1f} s; moments that can be restored lie so far apart at least"
                )
            book.until_ms = until
            book.volume.cover(until, until)
            book.volume.roll()
            book.volume.forget_cover()
        self.monitor.lag(until - before if before is not None else took_s * 1000)
        book.next_pass = max(book.pass_began + self.options.max_lag_s, now + took_s / 2)
        book.pass_began = None

    def _continuous(self, book: _Book, since_ms: int) -> None:
        """Every key was read since continuity was lost, and every change since then was heard of."""
        first = not book.volume.base_done
        book.volume.base_done = True
        book.since_ms, book.until_ms = since_ms, None
        gap, book.gap = book.gap, None
        if gap is not None:
            noted = FollowGap(gap.since_ms, since_ms, gap.reason, gap.lane)
            book.volume.chapter.gap(noted)
            if book is self._books[0]:
                self.monitor.gap(noted)
            self.monitor.news(
                f"continuity is proved again after {(since_ms - gap.since_ms) / 1000:.1f} s: {gap.reason}"
            )
        elif first and self.method != "poll":
            self.monitor.news("every key was read; from now on any moment can be restored")
        book.volume.roll()

    def _open_gap(self, book: _Book, since_ms: int | None, reason: str, lane: str) -> None:
        with self._lock:
            if book.since_ms is not None:
                covered = book.until_ms if book.until_ms is not None else book.since_ms
                start = covered if since_ms is None else min(since_ms, covered)
                book.gap = _Gap(max(start, 0), reason, lane)
                book.since_ms = book.until_ms = None
                book.pass_began = time.monotonic()
                self.monitor.news(f"continuity is lost: {reason}")
                book.volume.uncover(start if start < covered else None)
            elif book.gap is not None and since_ms is not None:
                book.gap.since_ms = min(book.gap.since_ms, since_ms)

    # Segments

    def _roll(self) -> None:
        for book in self._all_books():
            if book.volume.due():
                book.volume.roll()

    def _await_store(self) -> None:
        """The repository takes nothing: wait, then know again what it has. Raises what does not pass."""
        wait_s, error = _STORE_WAIT_S, self._store_error
        assert error is not None  # noqa: S101
        self.monitor.news(f"the backup is paused: {error}")
        began = time.monotonic()
        for volume in self.volumes():
            volume.chapter.journal.event("store-failed", reason=str(error))
        while True:
            self.monitor.phase("store", f"{error} (since {time.monotonic() - began:.0f} s)")
            if isinstance(error, CatalogError) and error.fault is CatalogFault.STATE and "another run" in error.what:
                self._fatal(error)
                raise error
            if isinstance(error, BlobError) and error.fault not in _PASSING:
                self._fatal(error)
                raise error
            again_at = time.monotonic() + wait_s
            while time.monotonic() < again_at:
                self._told()
                if self._stop.wait(_TICK_S):
                    return
            wait_s = min(wait_s * 2, _STORE_LONGEST_S)
            for lane in self._all_lanes():
                lane.drop_sweeps()
            try:
                for book in self._all_books():
                    book.volume.recover()
            except (BlobError, CatalogError) as again:
                error = again
                continue
            break
        for book in self._all_books():
            last = book.volume.last_covered_ms
            with self._lock:
                book.since_ms = book.until_ms = None
                book.pass_began = time.monotonic()
                if last is not None and book.gap is None:
                    book.gap = _Gap(last, f"the backup's place took nothing: {error}", None)
        with self._store:
            self._store_error = None
            self._store.notify_all()
        self.monitor.news("the backup's place works again; all keys are read again")
        for lane in self._all_lanes():
            for book in self._all_books():
                lane.sweep(book.volume, "gap" if book.volume.base_done else "base")

    def _fatal(self, error: BaseException) -> None:
        with self._store:
            self._store_fatal = error
            self._store.notify_all()

    # Proofs and rollovers

    def _prove_now_and_then(self) -> None:
        every_s = self.options.reconcile_s
        if self.method == "poll" or not every_s or len(self._books) != 1 or self._books[0].since_ms is None:
            return
        book, lanes = self._books[0], self._all_lanes()
        if any(lane.sweeping(book.volume, proofs=True) for lane in lanes):
            self._proving = True
            return
        if self._proving:
            self._proving = False
            self._proved_at, self._proved_ms = time.monotonic(), self._proof_began_ms
            book.volume.chapter.journal.event("proved")
        if time.monotonic() - self._proved_at >= every_s:
            self._proof_began_ms = book.until_ms
            self._proving = True
            for lane in lanes:
                lane.sweep(book.volume, "proof")

    def _roll_over(self) -> None:
        if len(self._books) > 1 and self._books[-1].since_ms is not None:
            with self._lock:
                old = self._books.pop(0)
            for lane in self._all_lanes():
                lane.drop_sweeps(old.volume)
            self._finish(old)
            self.monitor.news(f"{old.volume.name} is finished; {self._books[-1].volume.name} goes on")
        every_s = self.options.rollover_s
        if len(self._books) == 1 and every_s and self._books[0].since_ms is not None:
            book = self._books[0]
            if time.monotonic() - book.began >= every_s and book.volume.base_done:
                fresh = self._new_book()
                with self._lock:
                    self._books.append(fresh)
                for lane in self._all_lanes():
                    lane.sweep(fresh.volume, "base")

    def _finish(self, book: _Book) -> None:
        try:
            book.volume.roll()
            book.volume.settle()
            book.volume.chapter.finish(whole=book.since_ms is not None or book.volume.base_done)
        finally:
            book.volume.close()

    # Cluster mode

    def _follow_topology(self, cluster: Cluster) -> None:
        found = cluster.look(self._all_lanes())
        if found is None:
            return
        for lane in found.left:
            with self._lock:
                self._lanes.pop(lane.name, None)
            lane.leave()
            self._note_all("node-left", lane=lane.name)
        for node in found.joined:
            lane = self._add_lane(node)
            self._note_all("node-joined", lane=lane.name)
            if node.slots:
                # Whatever it took before it was followed was not heard of.
                for book in self._all_books():
                    self._open_gap(book, found.since_ms, f"{lane.name} has slots that another node had", lane.name)
        for lane, node in found.changed:
            gained = set(_slots(node)) - set(_slots(lane.node))
            lane.node = node
            if gained:
                self._note_all("slots-moved", lane=lane.name, slots=len(gained))
                for book in self._all_books():
                    lane.sweep(book.volume, "proof" if book.volume.base_done else "base")
        with self._lock:
            homeless, self._homeless = self._homeless, {}
        for changed, since in homeless.items():
            with self._lock:
                lane_ = self._lanes.get(cluster.owner_of(slot_of(changed[1])) or "")
            if lane_ is None or not lane_.hear({changed: since}):
                with self._lock:
                    self._homeless[changed] = since

    def _note_all(self, event: str, **fields: object) -> None:
        for volume in self.volumes():
            volume.chapter.journal.event(event, **fields)

    # The end

    def _end_lanes(self) -> None:
        """Each reads once more what was announced."""
        for lane in self._all_lanes():
            lane.leave()
        deadline = time.monotonic() + 30
        while not all(lane.done for lane in self._all_lanes()) and time.monotonic() < deadline:
            self._stop.wait(0)
            if any(not lane.connected and not lane.done for lane in self._all_lanes()):
                break
            self._raise_fatal()
            threading.Event().wait(0.005)
        self.halt.set()
        self._join()

    def _seal(self, event: str) -> None:
        if self._store_error is not None:
            raise self._store_error
        self._claim_at_end()
        for book in self._all_books():
            if book.gap is not None:
                noted = FollowGap(book.gap.since_ms, None, book.gap.reason, book.gap.lane)
                book.volume.chapter.journal.event(
                    "gap-open", start_ms=noted.start_ms, reason=noted.reason, lane=noted.lane
                )
                self.monitor.gap(noted)
            book.volume.close_bases()
            book.volume.roll()
            book.volume.settle()
            book.volume.chapter.journal.event(event)
            book.volume.chapter.journal.flush()
        for book in self._books[1:]:
            # A new generation that was not complete: the old one goes on next time.
            self._repository.remove(book.volume.name)

    def _claim_at_end(self) -> None:
        """What the last rounds captured. Lanes are at their end, and were connected until then."""
        lanes = self._all_lanes()
        marks = [lane.watermark_ms for lane in lanes]
        for book in self._all_books():
            if book.since_ms is not None and self.method != "poll" and None not in marks and marks:
                until = min(mark for mark in marks if mark is not None)
                if book.until_ms is None or until > book.until_ms:
                    book.until_ms = until
                    book.volume.cover(book.since_ms, until)
        newest = self._books[0]
        if newest.since_ms is not None and newest.until_ms is not None:
            self.monitor.covered((newest.since_ms, newest.until_ms))

    def _seal_what_is(self) -> None:
        """After an error: keep what there is, if the repository takes it. The error is the one that is raised."""
        if self._store_error is None and self._store_fatal is None:
            try:
                self._seal("ended")
            except (BlobError, CatalogError, RemoteError) as error:
                self.monitor.note(f"what was open could not be stored: {error}")

    def _join(self) -> None:
        for lane in self._all_lanes():
            lane.join()

    def _all_lanes(self) -> list[Lane]:
        with self._lock:
            return list(self._lanes.values())

    def _all_books(self) -> list[_Book]:
        with self._lock:
            return list(self._books)


def _slots(node: Node) -> list[int]:
    return [slot for first, last in node.slots for slot in range(first, last + 1)]


__all__ = ["KeyFollow", "RemoteFault", "now_ms"]
