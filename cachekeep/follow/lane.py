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
from typing import Protocol

from msgspec.structs import replace

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.copy_run import keyspace
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.scan import ScanBatch, batches_of
from cachekeep.backup.survey_types import Ability, Node, Survey
from cachekeep.codec.segment import NO_EXPIRY, Kind, Record
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault, understood
from cachekeep.follow.choose import why_deaf
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.signals import Changed, Overflow, Signals, notify, track
from cachekeep.follow.sweep import Sweep, SweepKind
from cachekeep.follow.types import FollowMethod, FollowOptions
from cachekeep.follow.volume import RECONCILE, Volume
from cachekeep.follow.watch import Counters, Seen

_READ_AT_ONCE, _EXCHANGE_KEYS = 1000, 500
_SLICE_S = 0.03
_WATCH_S = 0.5
_IDLE_ROUNDS, _IDLE_WAIT_S = 100, 0.1
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0
_UNCOUNTED_S = 10.0
_SUSPECTS_AT_ONCE = 500
_ELSEWHERE = frozenset(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"))
_HYLL = b"HYLL"


class Crew(Protocol):
    """What a lane sees of the whole. All are safe to call from lanes."""

    remote: Remote
    survey: Survey
    options: FollowOptions
    monitor: Monitor
    halt: Halt
    method: FollowMethod
    patterns: tuple[str, ...]

    def volumes(self) -> list[Volume]: ...

    def came_back(self, lane: Lane, lost_ms: int | None, reason: str) -> None:
        """The lane is connected, and hears from now on. lost_ms: since when it was gone; None for the first time."""
        ...

    def doubt(self, lane: Lane, since_ms: int | None, reason: str) -> None:
        """Something may have been missed since then (None: since the last covered moment): all keys are read again."""
        ...

    def missed(self, lane: Lane, keys: int) -> None:
        """A proof found changes that were never announced; they are written now."""
        ...

    def elsewhere(self, lane: Lane, keys: dict[Changed, float]) -> None:
        """The node sent us elsewhere for these keys."""
        ...

    def has_passed(self, moment_ms: int) -> bool:
        """Whether all that was announced until then, to any lane, was handed over."""
        ...

    def is_gone(self, lane: Lane) -> bool:
        """The node has left, and is not to be waited for."""
        ...

    def store_failed(self, error: BlobError | CatalogError) -> None:
        """Returns when the store works again. Raises Halted, and the error when it does not pass."""
        ...

    def skip(self, db: int, key: bytes, reason: str) -> None: ...


class Lane:
    """watermark_ms: everything until then was handed over. swept_ms: when the last pass for continuity ended.
    error: why it gave up; None while it works. Its thread ends with `crew.halt`, with `leave`, or with an error."""

    def __init__(self, node: Node, crew: Crew) -> None:
        self.node, self._crew = node, crew
        self.watermark_ms: int | None = None
        self.connected = self.was_connected = False
        self.error: BaseException | None = None
        self.done = False
        self._sweeps: list[Sweep] = []
        self._lock = threading.Lock()
        self._signals: Signals | None = None
        self._side: Connection | None = None
        self._readers: dict[int, Connection] = {}
        self._counters = Counters()
        self._watched_at, self._watched_ms = 0.0, 0
        self._groups_read_at = self._groups_took_s = 0.0
        self._groups_wanted = False
        self._round_took_s = 0.0
        self._heard_ms = self._looked_ms = self.swept_ms = 0
        self._deaf: str | None = None
        self._leaving = False
        self._holds: list[tuple[Lane, int]] = []
        self._thread = threading.Thread(target=self._main, name=f"lane-{node.lane}", daemon=True)

    @property
    def name(self) -> str:
        return self.node.lane

    @property
    def label(self) -> str:
        """For sentences: a server that stands alone has no name of its own."""
        return self.name if self.node.host else self._crew.remote.address

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """End after the round that goes on."""
        self._leaving = True

    def join(self) -> None:
        self._thread.join()

    @property
    def waiting(self) -> int:
        signals = self._signals
        return signals.waiting if signals else 0

    def sweep(self, volume: Volume, kind: SweepKind) -> None:
        """A pass over all keys is needed; of one kind and volume only one waits at a time."""
        options = self._crew.options
        rate = options.reconcile_keys_per_s if kind == "proof" else options.max_keys_per_s
        with self._lock:
            if not any((one.volume, one.kind, one.begun) == (volume, kind, False) for one in self._sweeps):
                self._sweeps.append(Sweep(volume, kind, rate, options.count))

    def sweeping(self, volume: Volume, *, proofs: bool = False) -> bool:
        """Whether a pass of the volume is needed, or goes on, that continuity waits for."""
        with self._lock:
            return any(one.volume is volume and (proofs or one.kind != "proof") for one in self._sweeps)

    def drop_sweeps(self, volume: Volume | None = None) -> None:
        with self._lock:
            gone = [one for one in self._sweeps if volume in (None, one.volume)]
            self._sweeps = [one for one in self._sweeps if one not in gone]
        for one in gone:
            one.give_up()

    def restart_sweeps(self) -> None:
        """Passes that go on begin again: what they have in hand may be older than what was just learned."""
        with self._lock:
            begun = [one for one in self._sweeps if one.begun]
        for one in begun:
            with self._lock:
                if one in self._sweeps:
                    self._sweeps.remove(one)
            one.give_up()
            self.sweep(one.volume, one.kind)

    def hear(self, keys: dict[Changed, float]) -> bool:
        """Take keys over from another lane; False when this one is not connected."""
        signals = self._signals
        if signals is None:
            return False
        signals.put_back(keys)
        return True

    def hold(self, other: Lane) -> None:
        """Until the other lane has read what it took over just now, nothing more is covered."""
        self._holds.append((other, self.now_ms()))

    def now_ms(self) -> int:
        """By the source's clock."""
        return now_ms() + self._crew.survey.clock_ahead_ms

    # The thread

    def _main(self) -> None:
        lost_ms: int | None = None
        reason, wait_s, since = "", _FIRST_WAIT_S, time.monotonic()
        try:
            while not self._leaving:
                try:
                    self._connect()
                    self._crew.came_back(self, lost_ms, reason)
                    self.connected = self.was_connected = True
                    wait_s = _FIRST_WAIT_S
                    self._rounds()
                    return
                except RemoteError as error:
                    was_connected, self.connected = self.connected, False
                    self._disconnect()
                    if error.fault is not RemoteFault.UNREACHABLE or (lost_ms is None and not was_connected):
                        raise
                    if was_connected:
                        lost_ms, since, reason = self.now_ms(), time.monotonic(), error.what
                        self._crew.doubt(self, None, error.what)
                    if isinstance(error, Overflow):
                        continue
                    if self._crew.is_gone(self):
                        return
                    if time.monotonic() - since > self._crew.options.patience_s:
                        what = f"{error.what}, and was not back within {self._crew.options.patience_s:g} s"
                        raise RemoteError(
                            RemoteFault.UNREACHABLE, what, "run the same again when it is back"
                        ) from error
                    self._crew.halt.wait(wait_s)
                    wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        except Halted:
            return
        except BaseException as error:  # noqa: BLE001 - told to the crew, which raises it
            self.error = error
        finally:
            self._disconnect()
            self.connected = False
            self.done = True

    def _rounds(self) -> None:
        crew, idle = self._crew, 0
        while not self._leaving:
            try:
                crew.halt.check()
                busy = self._round() if self._signals else False
                self._watch()
                busy = self._sweep_on() or busy
            except (BlobError, CatalogError) as error:
                self.drop_sweeps()
                crew.store_failed(error)
                continue
            idle = 0 if busy else idle + 1
            if idle > _IDLE_ROUNDS or (self._signals is None and not busy):
                crew.halt.wait(_IDLE_WAIT_S)
        if self._signals:
            with suppress(BlobError, CatalogError):
                self._round()

    def _connect(self) -> None:
        crew = self._crew
        self._counters = Counters()
        if crew.method != "poll":
            connection = self._open()
            try:
                if crew.method == "tracking":
                    track(connection)
                else:
                    notify(connection, *crew.patterns)
            except BaseException as error:
                connection.close()
                if isinstance(error, Refusal):
                    raise _refused(connection.address, error) from error
                raise
            self._signals = Signals(connection, crew.options.queue_keys, self.now_ms)
        self._side = self._open()
        self._watched_ms = self.now_ms()
        self.watermark_ms, self._groups_wanted = None, False
        self._look()

    def _disconnect(self) -> None:
        self.drop_sweeps()
        for connection in [*self._readers.values(), *([self._side] if self._side else [])]:
            connection.close()
        self._readers, self._side = {}, None
        signals, self._signals = self._signals, None
        if signals:
            signals.close()

    def _open(self, db: int = 0) -> Connection:
        node = self.node
        remote = self._crew.remote.at(node.host, node.port) if node.host else self._crew.remote
        connection = remote.connect(db)
        for ability in (Ability.NO_TOUCH, Ability.NO_EVICT):
            if self._crew.survey.can(ability):
                with suppress(Refusal):  # costs only the favour
                    connection.ask(*ability.value.split(), "ON")
        return connection

    def _reader(self, db: int) -> Connection:
        if db not in self._readers:
            self._readers[db] = self._open(db)
        return self._readers[db]

    def _databases(self) -> set[int]:
        """Those that have keys at the source."""
        assert self._side is not None  # noqa: S101 - connected
        try:
            return set(keyspace(self._side))
        except Refusal as refusal:
            raise _refused(self._side.address, refusal) from refusal

    # Rounds

    def _round(self) -> bool:
        """Read what was announced before a barrier. True when there was something."""
        assert self._signals is not None  # noqa: S101 - connected
        heard = self._signals.heard()
        began = time.monotonic()
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
        if not self._holds:
            self.watermark_ms = min(heard.moment_ms, self._looked_ms)
        self._round_took_s = time.monotonic() - began
        return bool(heard.keys)

    def has_passed(self, moment_ms: int) -> bool:
        """Whether everything that it had taken over by then was read."""
        return self.done or not self.connected or self._heard_ms > moment_ms

    def _read(self, keys: dict[Changed, float], moment_ms: int) -> None:
        """moment_ms: that of the barrier, which is what the records say: what they have is no older."""
        by_db: dict[int, list[bytes]] = {}
        everywhere = [key for db, key in keys if db is None]
        for db, key in keys:
            if db is not None:
                by_db.setdefault(db, []).append(key)
        if everywhere:
            known = {db for volume in self._crew.volumes() for db in volume.index.databases()}
            for db in sorted(self._databases() | known):
                by_db[db] = list(dict.fromkeys(by_db.get(db, []) + everywhere))
        moved: dict[Changed, float] = {}
        for db, wanted in by_db.items():
            for at in range(0, len(wanted), _READ_AT_ONCE):
                for key in self._read_some(db, wanted[at : at + _READ_AT_ONCE], moment_ms):
                    moved[db, key] = keys.get((db, key), keys.get((None, key), time.monotonic()))
        if moved:
            self._crew.elsewhere(self, moved)

    def _read_some(self, db: int, keys: list[bytes], moment_ms: int) -> list[bytes]:
        """Read and hand over; those that are on another node."""
        records, refused = self._records(db, keys)
        there = {record.key for record in records} | {key for key, _ in refused}
        records = [replace(record, captured_ms=moment_ms) for record in records]
        records += [Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, moment_ms, key, b"") for key in keys if key not in there]
        for volume in self._crew.volumes():
            volume.changed(records, self.name)
        return self._sorted_out(db, refused)

    def _records(self, db: int, keys: list[bytes]) -> tuple[list[Record], list[tuple[bytes, Refusal]]]:
        records: list[Record] = []
        refused: list[tuple[bytes, Refusal]] = []
        for batch in batches_of(
            self._reader(db), self._crew.survey, keys, db=db, count=_EXCHANGE_KEYS, on_note=self._crew.monitor.note
        ):
            records += batch.records
            refused += batch.refused
        return records, refused

    def _sorted_out(self, db: int, refused: Iterable[tuple[bytes, Refusal]]) -> list[bytes]:
        """Keys that the node sends elsewhere for; the others are skipped, and noted."""
        moved: list[bytes] = []
        for key, refusal in refused:
            if self._crew.survey.mode == "cluster" and refusal.code in _ELSEWHERE:
                moved.append(key)
            else:
                self._crew.skip(db, key, str(refusal))
        return moved

    # What is not announced

    def _flushed(self, moment_ms: int) -> None:
        """A database was emptied, and nobody says which: the one that has far fewer keys than it had."""
        assert self._side is not None  # noqa: S101 - connected
        self.restart_sweeps()
        doubtful = self._crew.survey.mode == "cluster"
        if not doubtful:
            sizes = {db: numbers.get("keys", 0) for db, numbers in keyspace(self._side).items()}
            for volume in self._crew.volumes():
                for db in sorted(volume.index.databases()):
                    had, has = volume.index.count(db), sizes.get(db, 0)
                    if has * 2 <= had:
                        volume.flushed(db, moment_ms, self.name)
                    doubtful = doubtful or bool(had and has)
        if doubtful:
            self._crew.doubt(self, self.watermark_ms, "a database was emptied (FLUSHDB or FLUSHALL)")

    def _watch(self) -> None:
        if time.monotonic() - self._watched_at >= _WATCH_S:
            self._look()

    def _look(self) -> None:
        """Ask for what nothing announces. What was looked at, and read if need be, is captured up to this moment."""
        assert self._side is not None  # noqa: S101 - connected
        crew, moment_ms = self._crew, self.now_ms()
        with understood(self._side.address):
            deaf = why_deaf(self._side, crew.patterns) if crew.method == "keyspace" else None
            seen = self._counters.look(self._side)
        self._watched_at, before_ms, self._watched_ms = time.monotonic(), self._watched_ms, moment_ms
        if self.connected and crew.method != "poll":
            self._heed(seen, deaf, before_ms)
        elif not self.connected:
            self._deaf = deaf
            self._read_functions()
            if deaf:
                crew.monitor.news(f"{self.label}: {deaf}; nothing is covered until that is mended")
        if self._deaf is None and not self._groups_wanted:
            self._looked_ms = moment_ms

    def _heed(self, seen: Seen, deaf: str | None, before_ms: int) -> None:
        crew = self._crew
        if deaf != self._deaf:
            self._deaf = deaf
            self.restart_sweeps()
            crew.doubt(self, before_ms, deaf or "the server announced nothing for a while")
        if seen.swapped or (seen.flushed and crew.method == "keyspace"):
            what = "SWAPDB" if seen.swapped else "FLUSHDB or FLUSHALL"
            self.restart_sweeps()
            crew.doubt(self, before_ms, f"{what} was done, which nothing announces")
        if seen.functions:
            self._read_functions()
        if self._groups_are_due(seen):
            self._read_streams()

    def _groups_are_due(self, seen: Seen) -> bool:
        if seen.unknown:
            self._crew.monitor.note(
                f"{self.label} does not tell INFO commandstats: streams are read again every {_UNCOUNTED_S:g} s,"
                " and a flush or swap of databases shows only in the passes over all keys"
            )
        # Where groups change all the time, no more than a tenth of the time is spent on them.
        wait_s = max(_UNCOUNTED_S if seen.unknown else 0.0, 10 * self._groups_took_s)
        self._groups_wanted = self._groups_wanted or seen.streams or seen.unknown
        with self._lock:
            # What a pass will find is not to be told as announced.
            waits = any(one.kind == "gap" for one in self._sweeps)
        return self._groups_wanted and not waits and time.monotonic() - self._groups_read_at >= wait_s

    def _read_streams(self) -> None:
        began = time.monotonic()
        self._groups_wanted = False
        for volume in self._crew.volumes():
            for db, keys in volume.index.streams():
                records, _ = self._records(db, keys)
                stamped = [replace(record, captured_ms=self._watched_ms) for record in records]
                volume.changed(stamped, self.name)
        self._groups_read_at = time.monotonic()
        self._groups_took_s = self._groups_read_at - began

    def _read_functions(self) -> None:
        if not self._crew.survey.can(Ability.FUNCTIONS):
            return
        assert self._side is not None  # noqa: S101 - connected
        try:
            payload = self._side.ask("FUNCTION", "DUMP")
        except Refusal as refusal:
            self._crew.monitor.note(f"functions of {self.label} could not be read: {refusal}")
            return
        for volume in self._crew.volumes():
            volume.functions(payload, self._watched_ms, self.name)

    # Passes over all keys

    def _sweep_on(self) -> bool:
        """Go on with the first pass that waits. True when there was one."""
        with self._lock:
            sweep = self._sweeps[0] if self._sweeps else None
        if sweep is None:
            return False
        if not sweep.begun:
            if sweep.kind != "proof":
                self._read_functions()
            sweep.begin(
                self._crew.survey,
                self.name,
                self.node.slots,
                self._open,
                self._databases,
                self._crew.monitor.note,
                self._refused,
            )
        before = sweep.keys
        # A proof may wait; what continuity waits for gets a third of the time at least.
        slice_s = _SLICE_S if sweep.kind == "proof" else max(_SLICE_S, self._round_took_s / 2)
        done = sweep.swept or sweep.step(slice_s)
        self._crew.monitor.copied(sweep.keys - before)
        if done and (sweep.kind != "proof" or self._proved(sweep)):
            if sweep.kind != "proof":
                self.swept_ms = self.now_ms()
            if self._signals:
                self._round()
            else:
                self.watermark_ms = self.now_ms()
            with self._lock:
                if sweep in self._sweeps:
                    self._sweeps.remove(sweep)
            self._crew.monitor.passed()
        return not (done and sweep.kind == "proof")

    def _refused(self, batch: ScanBatch, db: int) -> None:
        moved = self._sorted_out(db, batch.refused)
        if moved:
            self._crew.elsewhere(self, {(db, key): time.monotonic() for key in moved})

    def _proved(self, sweep: Sweep) -> bool:
        """Look again at keys that a proof found otherwise: what no announcement explains was missed. True at the end.

        Some are read; once every lane has handed over all that was announced until then, a key that is not known as it
        was read, and was not announced since the pass began, is one.
        """
        if sweep.read:
            if not self._crew.has_passed(sweep.read_ms):
                return False
            missed = [one for one in sweep.read if not sweep.explains(one) and not _is_cache_of_count(one)]
            sweep.read = []
            if missed:
                self._crew.missed(self, len(missed))
                for volume in self._crew.volumes():
                    volume.changed(missed, f"{self.name}{RECONCILE}")
        some = sweep.take_suspects(_SUSPECTS_AT_ONCE)
        for db in {db for db, _ in some}:
            keys = [key for at, key in some if at == db]
            records, refused = self._records(db, keys)
            there = {record.key for record in records} | {key for key, _ in refused}
            now = self.now_ms()
            sweep.read += [replace(record, captured_ms=now) for record in records]
            sweep.read += [
                Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, now, key, b"") for key in keys if key not in there
            ]
        sweep.read_ms = self.now_ms()
        return not sweep.read


def _is_cache_of_count(record: Record) -> bool:
    """A HyperLogLog keeps its last count in its value: PFCOUNT changes it, and keyspace notifications say nothing."""
    return _HYLL in record.payload[:16]


def _refused(address: str, refusal: Refusal) -> RemoteError:
    passing = refusal.code in ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY")
    fault = RemoteFault.UNREACHABLE if passing else RemoteFault.DENIED
    return RemoteError(fault, f"{address} does not let itself be followed: {refusal}", "see `backup doctor`")
