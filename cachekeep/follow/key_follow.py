"""A source followed key by key: its lanes, the generations that are written, and when what is done.

Called by follow.follow, in its thread; lanes have threads of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.survey_types import Ability, Node, Survey
from cachekeep.codec.slots import slot_of
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Remote, RemoteError
from cachekeep.follow.books import Book, Books, Lost
from cachekeep.follow.chapter import Chapter, open_generation_of
from cachekeep.follow.cluster import Cluster
from cachekeep.follow.crew import Member
from cachekeep.follow.homeless import Homeless
from cachekeep.follow.lane import Lane
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.proofs import Proofs
from cachekeep.follow.signals import Changed
from cachekeep.follow.store_trouble import StoreTrouble
from cachekeep.follow.sweep import SweepKind
from cachekeep.follow.types import Choice, FollowGap, FollowMethod, FollowOptions
from cachekeep.follow.volume import Volume

_TICK_S = 0.05
_LAST_ROUND_S = 30.0


class KeyFollow:
    """Implements crew.Crew for its lanes."""

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
        self._books = Books(monitor, options, polled=choice.method == "poll")
        self._store = StoreTrouble(self.halt, stop)
        self._cluster = Cluster(remote, survey, self.halt) if survey.mode == "cluster" else None
        self._lanes: dict[str, Lane] = {}
        self._left: list[Lane] = []
        self._lock = threading.RLock()
        self._homeless = Homeless(self._owner_of)
        self._proofs = Proofs(0.0 if choice.method == "poll" else options.reconcile_s)
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
        except BaseException:
            self.halt.set()
            self._join()
            self._seal_what_is()
            raise
        finally:
            self.halt.set()
            self._join()
            for volume in self._books.volumes():
                volume.close()

    # What lanes see

    def volumes(self) -> list[Volume]:
        return self._books.volumes()

    def came_back(self, lane: Member, lost_ms: int | None, reason: str) -> None:
        now = lane.now_ms()
        if lost_ms is not None:
            for volume in self.volumes():
                volume.chapter.journal.interruption(lane.name, lost_ms, now, reason)
            self.monitor.news(f"{lane.label} is back after {(now - lost_ms) / 1000:.1f} s; all its keys are read again")
        for volume in self.volumes():
            lane.sweeps.want(volume, _kind(volume))

    def doubt(self, lane: Member, since_ms: int | None, reason: str) -> None:
        for volume in self.volumes():  # first: nothing is claimed from here on
            lane.sweeps.want(volume, _kind(volume))
        try:
            self._books.lose(since_ms, reason, lane.name)
        except (BlobError, CatalogError) as error:  # the source and the store at once: the store is waited for as well
            self._store.happened(error)

    def fell_behind(self, lane: Member, seconds: float) -> None:
        self._books.fell_behind(seconds, lane)

    def missed(self, lane: Member, keys: int) -> None:
        self._books.missed(keys, self._proofs.proved_ms, lane)

    def elsewhere(self, lane: Member, keys: dict[Changed, float]) -> None:
        """Hand them to the lane that has their slots now; until it has read them nothing more is covered."""
        assert self._cluster is not None  # noqa: S101 - only there
        self._cluster.look_soon()
        if self.method == "poll":
            for volume in self.volumes():
                lane.sweeps.want(volume, _kind(volume))
            return
        if self._homeless.hand_on(lane, keys):
            self.monitor.note("slots are on the move: their keys are read, and more is covered, when they have arrived")

    def has_passed(self, moment_ms: int) -> bool:
        with self._lock:
            return not self._homeless and all((lane.watermark_ms or 0) > moment_ms for lane in self._lanes.values())

    def is_gone(self, lane: Member) -> bool:
        with self._lock:
            return self._cluster is not None and self._lanes.get(lane.name) is not lane

    def store_failed(self, error: BlobError | CatalogError) -> None:
        self._store.outlast(error)

    def skip(self, db: int, key: bytes, reason: str) -> None:
        for volume in self.volumes():
            volume.chapter.journal.skip(db, key, reason)
        self.monitor.note(f"a key could not be read: {reason}; `backup show` names such keys")

    # The thread of the whole

    def _begin(self) -> None:
        found = open_generation_of(self._repository, self.survey.name, self.method) if self.options.resume else None
        book: Book | None = None
        if found is not None:
            try:
                book = self._resumed(found.name)
            except CatalogError as error:
                self.monitor.note(f"the open backup {found.name} was not gone on with: {error.what}")
        self._books.add(book or self._new_book())
        self.monitor.phase("copying")
        for node in self._nodes():
            self._add_lane(node)

    def _resumed(self, name: str) -> Book:
        volume = self._volume(Chapter.resume(self._repository, name))
        try:
            volume.reload()
        except BaseException:
            volume.close()
            raise
        book = Book(volume)
        if volume.last_covered_ms is not None:
            book.lost = Lost(volume.last_covered_ms, "nobody followed the source", None)
        volume.chapter.journal.event("resumed")
        self.monitor.generation(name)
        return book

    def _new_book(self) -> Book:
        volume = self._volume(Chapter.begin(self._repository, self.survey, self._nodes(), self._choice))
        self.monitor.generation(volume.name)
        return Book(volume)

    def _volume(self, chapter: Chapter) -> Volume:
        options, cluster = self.options, self._cluster is not None
        exact = self.survey.can(Ability.PEXPIRETIME) or self.survey.can(Ability.SCRIPTS)
        return Volume(chapter, self.monitor, options.max_lag_s, options.heartbeat_s, cluster=cluster, exact=exact)

    def _nodes(self) -> list[Node]:
        return self._cluster.nodes() if self._cluster else list(self.survey.nodes)

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
            if not self._is_unseen_yet():
                self._books.claim(self._all_lanes())
            for volume in self.volumes():
                if volume.due():
                    volume.roll()
            self._proofs.now_and_then(self._books, self._all_lanes())
            self._roll_over()
        except (BlobError, CatalogError) as error:
            self._store.happened(error)
        if self._store.error is not None:
            self._await_store(self._store.error)
        self._show()

    def _raise_fatal(self) -> None:
        for lane in self._all_lanes():
            if lane.error is not None and not isinstance(lane.error, Halted):
                raise lane.error
        if self._store.fatal is not None:
            raise self._store.fatal

    def _show(self) -> None:
        lanes, books = self._all_lanes(), self._books.all()
        self.monitor.queue(sum(lane.waiting for lane in lanes))
        away = [lane.trouble for lane in lanes if lane.was_connected and not lane.connected]
        first = books[0]
        if away:
            self.monitor.phase("away", f"waiting for the source: {'; '.join(away)}")
        elif first.since_ms is None:
            self.monitor.phase("reconciling" if first.volume.base_done else "copying")
        else:
            self.monitor.phase("following")
        claimed = first.since_ms is not None and first.until_ms is not None
        self.monitor.covered((first.since_ms or 0, first.until_ms or 0) if claimed else None)

    def _await_store(self, error: BlobError | CatalogError) -> None:
        """The repository takes nothing: wait, then know again what it has. Raises what does not pass."""
        self.monitor.news(f"the backup is paused: {error}")
        self._books.note("store-failed", reason=str(error))

        def again() -> None:
            for lane in self._all_lanes():
                lane.sweeps.drop()
            for volume in self.volumes():
                volume.recover()

        def told(sentence: str) -> None:
            self.monitor.phase("store", sentence)
            self._told()

        if not self._store.wait(again, told):
            return
        self._books.store_came_back(f"the backup's place took nothing: {error}")
        self._pass_again()
        self._store.over()
        self.monitor.news("the backup's place works again; all keys are read again")

    # Rollovers

    def _roll_over(self) -> None:
        old, *fresh = self._books.all()
        if fresh and fresh[0].since_ms is not None:
            self._books.remove(old)
            for lane in self._all_lanes():
                lane.sweeps.forget(old.volume)
            self._finish(old)
            self.monitor.news(f"{old.volume.name} is finished; {fresh[0].volume.name} goes on")
        due = self.options.rollover_s and time.monotonic() - old.began >= self.options.rollover_s
        if not fresh and due and old.since_ms is not None:
            book = self._new_book()
            self._books.add(book)
            for lane in self._all_lanes():
                lane.sweeps.want(book.volume, "base")

    def _finish(self, book: Book) -> None:
        """Where the store does not take the end of it, it stays open: what it covers can be restored all the same."""
        try:
            book.volume.roll()
            book.volume.settle()
            book.volume.chapter.finish(whole=True)
        except (BlobError, CatalogError) as error:
            self.monitor.note(f"{book.volume.name} could not be finished: {error}")
        finally:
            book.volume.close()

    # Cluster mode

    def _owner_of(self, changed: Changed) -> Lane | None:
        assert self._cluster is not None  # noqa: S101 - only there
        name = self._cluster.owner_of(slot_of(changed[1]))
        with self._lock:
            return self._lanes.get(name or "")

    def _follow_topology(self, cluster: Cluster) -> None:
        moves = cluster.moves(self._all_lanes())
        if moves is not None:
            for lane in moves.left:
                with self._lock:
                    self._left.append(self._lanes.pop(lane.name))
                lane.leave()
                self._books.note("node-left", lane=lane.name)
            for node in moves.joined:
                lane = self._add_lane(node)
                self._books.note("node-joined", lane=lane.name)
                if node.slots:
                    # Whatever it took before it was followed was not heard of.
                    self._books.lose(moves.since_ms, f"{lane.name} has slots that another node had", lane.name)
            for lane, node in moves.changed:
                self._moved(lane, node)
        self._homeless.bring_home()

    def _is_unseen_yet(self) -> bool:
        """Of polling: whether slots moved during the pass that ended is not known before another look."""
        if self._cluster is None or self.method != "poll":
            return False
        return self._cluster.looked_ms < max((lane.swept_ms for lane in self._all_lanes()), default=0)

    def _moved(self, lane: Lane, node: Node) -> None:
        """Both ends heard of every change; that nothing was missed on the way is proved all the same."""
        gained = lane.now_is(node)
        if gained:
            self._books.note("slots-moved", lane=lane.name, slots=len(gained))
            if self.method == "poll":
                self._pass_again()  # a key that moved may have been met by no lane
                return
            for volume in self.volumes():
                lane.sweeps.want(volume, "proof" if volume.base_done else "base")

    def _pass_again(self) -> None:
        """Every lane reads all its keys."""
        for lane in self._all_lanes():
            for volume in self.volumes():
                lane.sweeps.want(volume, _kind(volume))

    # The end

    def _end_lanes(self) -> None:
        """Each reads once more what was announced."""
        for lane in self._all_lanes():
            lane.leave()
        deadline = time.monotonic() + _LAST_ROUND_S
        for lane in self._all_lanes():
            while lane.connected and not lane.done and time.monotonic() < deadline and self._store.error is None:
                lane.join(_TICK_S)
        self.halt.set()
        self._join()
        self._raise_fatal()

    def _seal(self, event: str) -> None:
        if self._store.error is not None:
            raise self._store.error
        self._books.claim_at_end(self._all_lanes())
        first, *fresh = self._books.all()
        if first.lost is not None:
            lost = first.lost
            first.volume.chapter.journal.event("gap-open", start_ms=lost.since_ms, reason=lost.reason, lane=lost.lane)
            self.monitor.gap(FollowGap(lost.since_ms, None, lost.reason, lost.lane))
        first.volume.close_bases()
        first.volume.roll()
        first.volume.settle()
        first.volume.chapter.journal.event(event)
        first.volume.chapter.journal.flush()
        for book in fresh:
            # A new generation that is not whole: the old one is gone on with next time.
            book.volume.close()
            self._repository.remove(book.volume.name)

    def _seal_what_is(self) -> None:
        """After an error: keep what there is, if the repository takes it. The error is the one that is raised."""
        if self._store.error is None and self._store.fatal is None and self._books.all():
            try:
                self._seal("ended")
            except (BlobError, CatalogError, RemoteError) as error:
                self.monitor.note(f"what was open could not be stored: {error}")

    def _join(self) -> None:
        with self._lock:
            lanes = [*self._lanes.values(), *self._left]
        for lane in lanes:
            lane.join()
        if self._cluster is not None:
            self._cluster.join()

    def _all_lanes(self) -> list[Lane]:
        with self._lock:
            return list(self._lanes.values())


def _kind(volume: Volume) -> SweepKind:
    return "gap" if volume.base_done else "base"
