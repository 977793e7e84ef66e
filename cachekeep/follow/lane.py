"""One node of a source that is followed key by key: a thread that hears of changed keys, reads them, and passes over
all keys when that is needed. Called by follow.key_follow.

One round: a barrier; the keys that were announced before it are read and handed to the volumes; then everything that
changed before the barrier was sent is captured, and `watermark_ms` says so. Between rounds a pass goes on for some
milliseconds. What a thread does it does in this order, so that nothing older comes after something newer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.pacing import Halted
from cachekeep.backup.scan import ScanBatch
from cachekeep.backup.survey_types import Node
from cachekeep.codec.slots import slot_of
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Refusal, RemoteError, RemoteFault
from cachekeep.follow.crew import Crew, Member
from cachekeep.follow.key_source import KeySource, denied
from cachekeep.follow.proof import proved, stamped
from cachekeep.follow.signals import Changed, Overflow, Signals, notify, track
from cachekeep.follow.sweep import Sweep
from cachekeep.follow.sweeps import Sweeps
from cachekeep.follow.unannounced import Unannounced

_READ_AT_ONCE = 1000
_SLICE_S, _ROUND_S = 0.03, 0.02
_IDLE_ROUNDS, _IDLE_WAIT_S = 100, 0.1
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0
_LEFT_S = 10.0
_ELSEWHERE = frozenset(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"))


class Lane:
    """Implements crew.Member. watermark_ms: everything until then was handed over. swept_ms: when the last pass for
    continuity ended. error: why it gave up; None while it works.

    Its thread ends with `crew.halt`, with `leave`, or with an error.
    """

    def __init__(self, node: Node, crew: Crew) -> None:
        self.node, self._crew = node, crew
        self.sweeps = Sweeps(crew.options)
        self.connected = self.was_connected = self.done = False
        self.error: BaseException | None = None
        self.trouble = ""  # why it is not connected
        self.watermark_ms: int | None = None
        self.swept_ms = self._heard_ms = 0
        self._round_took_s = 0.0
        self._signals: Signals | None = None
        self._source = KeySource(crew.remote, crew.survey, node, crew.monitor)
        self._unannounced: Unannounced | None = None
        self._leaving = False
        self._holds: list[tuple[Member, int]] = []
        self._left: dict[int, float] = {}  # slots that moved to another node, and when that was seen
        self._thread = threading.Thread(target=self._main, name=f"lane-{node.lane}", daemon=True)

    @property
    def name(self) -> str:
        return self.node.lane

    @property
    def label(self) -> str:
        """A server that stands alone has no name of its own."""
        return self.name if self.node.host else self._crew.remote.address

    @property
    def waiting(self) -> int:
        """Keys that were announced and not taken yet."""
        signals = self._signals
        return signals.waiting if signals else 0

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """End after the round that goes on."""
        self._leaving = True

    def join(self, within_s: float | None = None) -> None:
        self._thread.join(within_s)

    def hear(self, keys: dict[Changed, float]) -> bool:
        signals = self._signals
        if signals is None:
            return False
        signals.put_back(keys)
        return True

    def missed(self, keys: int) -> None:
        self.swept_ms = self.now_ms()
        self._crew.missed(self, keys)

    def had(self, key: bytes) -> bool:
        if self._crew.survey.mode != "cluster":
            return True
        slot = slot_of(key)
        left = self._left.get(slot)
        if left is not None and time.monotonic() - left < _LEFT_S:
            return True
        return any(first <= slot <= last for first, last in self.node.slots)

    def now_is(self, node: Node) -> set[int]:
        """The node has other slots than before: those that it gained."""
        before, now = slots_of(self.node), slots_of(node)
        self._left = {slot: at for slot, at in self._left.items() if time.monotonic() - at < _LEFT_S}
        self._left |= dict.fromkeys(before - now, time.monotonic())
        self.node = node
        return now - before

    def hold(self, other: Member) -> None:
        self._holds.append((other, self.now_ms()))

    def has_passed(self, moment_ms: int) -> bool:
        return self.done or not self.connected or self._heard_ms > moment_ms

    def now_ms(self) -> int:
        return now_ms() + self._crew.survey.clock_ahead_ms

    # The thread

    def _main(self) -> None:
        lost: tuple[int, float, str] | None = None  # since when, by both clocks, and why
        wait_s = _FIRST_WAIT_S
        try:
            while not self._leaving:
                try:
                    self._connect()
                    self._crew.came_back(self, lost[0] if lost else None, lost[2] if lost else "")
                    self.connected = self.was_connected = True
                    wait_s = _FIRST_WAIT_S
                    self._rounds()
                    return
                except RemoteError as error:
                    lost = self._lost(error, lost)
                    if isinstance(error, Overflow):
                        continue
                    if self._crew.is_gone(self):
                        return
                    self._crew.halt.wait(wait_s if error.fault is RemoteFault.UNREACHABLE else _LONGEST_WAIT_S)
                    wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        except Halted:
            return
        except BaseException as error:  # noqa: BLE001 - told to the crew, which raises it
            self.error = error
        finally:
            self._disconnect()
            self.connected = False
            self.done = True

    def _lost(self, error: RemoteError, before: tuple[int, float, str] | None) -> tuple[int, float, str]:
        """Since when the node is gone. Raises the error when it does not pass, or has not for too long."""
        was_connected, self.connected, self.watermark_ms = self.connected, False, None
        self.trouble = error.what
        self._disconnect()
        # Rights that were lost, or a password that changed, may come back as well: within the patience.
        if error.fault in (RemoteFault.FOREIGN, RemoteFault.UNTRUSTED) or not self.was_connected:
            raise error
        if was_connected or before is None:
            before = self.now_ms(), time.monotonic(), error.what
            self._crew.doubt(self, None, error.what)
        patience_s = self._crew.options.patience_s
        if time.monotonic() - before[1] > patience_s:
            what = f"{error.what}, and was not back within {patience_s:g} s"
            raise RemoteError(RemoteFault.UNREACHABLE, what, "run the same again when it is back") from error
        return before

    def _connect(self) -> None:
        crew = self._crew
        if crew.method != "poll":
            connection = self._source.open()
            try:
                if crew.method == "tracking":
                    track(connection)
                else:
                    notify(connection, *crew.patterns)
            except BaseException as error:
                connection.close()
                if isinstance(error, Refusal):
                    raise denied(connection.address, error) from error
                raise
            self._signals = Signals(connection, crew.options.queue_keys, self.now_ms)
        self.watermark_ms = None
        self._unannounced = Unannounced(self._source, crew, self)

    def _disconnect(self) -> None:
        self.sweeps.drop()
        self._source.close()
        self._unannounced = None
        signals, self._signals = self._signals, None
        if signals:
            signals.close()

    def _rounds(self) -> None:
        crew, idle = self._crew, 0
        while not self._leaving:
            began = time.monotonic()
            try:
                crew.halt.check()
                busy = self._round() if self._signals else False
                self._look()
                busy = self._sweep_on() or busy
            except (BlobError, CatalogError) as error:
                crew.store_failed(error)
                self.sweeps.restart()
                continue
            idle = 0 if busy else idle + 1
            if idle > _IDLE_ROUNDS or (self._signals is None and not busy):
                crew.halt.wait(_IDLE_WAIT_S)
            elif self._signals and self.sweeps.first() is None:
                # Keys that change again meanwhile are read once, and the source and we have less to do.
                crew.halt.wait(max(0.0, _ROUND_S - (time.monotonic() - began)))
        if self._signals:
            with suppress(BlobError, CatalogError):  # the crew meets it as well
                self._look(at_once=True)
                self._round()

    def _look(self, *, at_once: bool = False) -> None:
        assert self._unannounced is not None  # noqa: S101 - connected
        self._unannounced.look_now_and_then(at_once=at_once)

    # Announcements

    def _round(self) -> bool:
        """Read what was announced before a barrier. True when there was something."""
        assert self._signals is not None  # noqa: S101 - connected
        assert self._unannounced is not None  # noqa: S101
        heard = self._signals.heard()
        began, reconnected = time.monotonic(), self._source.reconnected
        if heard.flushed:
            self._flushed(heard.moment_ms)  # first: what is read below is of after it
        if heard.keys:
            try:
                first = min(heard.keys.values())
                self._read(heard.keys, heard.moment_ms)
                self._crew.monitor.lag((time.monotonic() - first) * 1000)
            except BaseException:
                self._signals.put_back(heard.keys)
                raise
        self._holds = [(other, since) for other, since in self._holds if not other.has_passed(since)]
        self._heard_ms = heard.moment_ms
        self._round_took_s = time.monotonic() - began
        if self._source.reconnected != reconnected:
            return True  # whether it is the same process is for the next barrier to show
        if self._round_took_s > self._crew.options.max_lag_s:
            self.swept_ms = self.now_ms()
            self._crew.fell_behind(self, self._round_took_s)
        if not self._holds:
            self.watermark_ms = min(heard.moment_ms, self._unannounced.captured_ms)
        return bool(heard.keys)

    def _read(self, keys: dict[Changed, float], moment_ms: int) -> None:
        """moment_ms: that of the barrier, which is what the records say: what they have is no older."""
        known = {db for volume in self._crew.volumes() for db in volume.index.databases()}
        by_db: dict[int, list[bytes]] = {db: [] for db in sorted(self._source.sizes().keys() | known)}
        everywhere = [key for db, key in keys if db is None]
        for db, key in keys:
            if db in by_db:  # what is announced of others (by anybody, with PUBLISH) is of no key that there is
                by_db[db].append(key)
        if everywhere:
            by_db = {db: list(dict.fromkeys(some + everywhere)) for db, some in by_db.items()}
        moved: dict[Changed, float] = {}
        for db, wanted in by_db.items():
            for at in range(0, len(wanted), _READ_AT_ONCE):
                for key in self._read_some(db, wanted[at : at + _READ_AT_ONCE], moment_ms):
                    moved[db, key] = keys.get((db, key), keys.get((None, key), time.monotonic()))
        if moved:
            self._crew.elsewhere(self, moved)

    def _read_some(self, db: int, keys: list[bytes], moment_ms: int) -> list[bytes]:
        """Read and hand over; those that are on another node."""
        records, refused = self._source.records(db, keys)
        found = stamped(db, keys, records, {key for key, _ in refused}, moment_ms)
        for volume in self._crew.volumes():
            volume.changed(found, self.name)
        return self._sorted_out(db, refused)

    def _sorted_out(self, db: int, refused: Iterable[tuple[bytes, Refusal]]) -> list[bytes]:
        """Keys that the node sends elsewhere for; the others are skipped, and noted."""
        moved: list[bytes] = []
        for key, refusal in refused:
            if self._crew.survey.mode == "cluster" and refusal.code in _ELSEWHERE:
                moved.append(key)
            elif refusal.code == "NOPERM" and "command" in str(refusal).lower():
                raise denied(self._source.side.address, refusal)
            else:
                self._crew.skip(db, key, str(refusal))
        return moved

    def _flushed(self, moment_ms: int) -> None:
        """A database was emptied, and nobody says which: the one that has far fewer keys than it had."""
        self.sweeps.restart()
        doubtful = self._crew.survey.mode == "cluster"
        if not doubtful:
            sizes = self._source.sizes()
            for volume in self._crew.volumes():
                for db in sorted(volume.index.databases()):
                    had, has = volume.index.count(db), sizes.get(db, 0)
                    if has * 2 <= had:
                        volume.flushed(db, moment_ms, self.name)
                    doubtful = doubtful or bool(had and has)
        if doubtful:
            self._crew.doubt(self, self.watermark_ms, "a database was emptied (FLUSHDB or FLUSHALL)")

    # Passes over all keys

    def _sweep_on(self) -> bool:
        """Go on with the first pass that waits. True when there was one."""
        sweep = self.sweeps.first()
        if sweep is None:
            return False
        if not sweep.begun:
            self._begin(sweep)
        before = sweep.keys
        # A proof may wait; what continuity waits for gets a third of the time at least.
        slice_s = _SLICE_S if sweep.kind == "proof" else max(_SLICE_S, self._round_took_s / 2)
        swept = sweep.swept or sweep.step(slice_s)
        self._crew.monitor.copied(sweep.keys - before)
        if sweep.kind == "proof":
            if swept and proved(sweep, self._source, self._crew, self):
                self._ended(sweep)
            return not swept
        if swept:
            self.swept_ms = self.now_ms()
            self._ended(sweep)
        return True

    def _begin(self, sweep: Sweep) -> None:
        assert self._unannounced is not None  # noqa: S101 - connected
        if sweep.kind != "proof":
            self._unannounced.read_functions()
        sweep.begin(
            self._crew.survey,
            self.name,
            self.node.slots if self._crew.survey.mode == "cluster" else None,
            self._source.open,
            lambda: set(self._source.sizes()),
            self._crew.monitor.note,
            self._refused,
        )

    def _ended(self, sweep: Sweep) -> None:
        if self._signals:
            self._round()
        else:
            self.watermark_ms = self.now_ms()
        self.sweeps.done(sweep)
        self._crew.monitor.passed()

    def _refused(self, batch: ScanBatch, db: int) -> None:
        self.refused(db, batch.refused)

    def refused(self, db: int, refused: Iterable[tuple[bytes, Refusal]]) -> None:
        moved = self._sorted_out(db, refused)
        if moved:
            self._crew.elsewhere(self, {(db, key): time.monotonic() for key in moved})


def slots_of(node: Node) -> set[int]:
    return {slot for first, last in node.slots for slot in range(first, last + 1)}
