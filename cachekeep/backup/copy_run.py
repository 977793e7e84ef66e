"""What the threads of one copy share: the run, what it counted, and small questions to a node.

Called by backup.lanes, backup.moved_slots, backup.copy_psync and backup.copy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cachekeep.backup.catalog_chain import ResumePoint
from cachekeep.backup.copy_types import CopyOptions
from cachekeep.backup.interruptions import Journal
from cachekeep.backup.pacing import Halt, Halted, Pace
from cachekeep.backup.progress import OnProgress, Progress
from cachekeep.backup.scan import ScanBatch
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.writer import GenerationWriter
from cachekeep.codec.info import parse_info
from cachekeep.codec.record import Record
from cachekeep.codec.slots import slot_of
from cachekeep.domain.remote import Connection, Refusal, Remote, understood

_SHOW_S = 0.1
_ELSEWHERE = frozenset(("MOVED", "ASK", "TRYAGAIN"))


class Tally:
    """What the lanes have done so far, and who is told. Safe to share between threads."""

    def __init__(self, progress: OnProgress, total_keys: int | None) -> None:
        self._progress, self._total_keys = progress, total_keys
        self._phase, self._shown_at = "", 0.0
        self._all = self._bytes = 0
        self.keys: dict[int, int] = {}
        self._lock = threading.Lock()

    def phase(self, phase: str) -> None:
        with self._lock:
            self._phase = phase
            self._show()

    def count(self, db: int, records: list[Record]) -> None:
        self.add(db, len(records), sum([len(record.payload) for record in records]))

    def add(self, db: int | None, keys: int, size: int) -> None:
        with self._lock:
            if db is not None:
                self.keys[db] = self.keys.get(db, 0) + keys
            self._all += keys
            self._bytes += size
            if time.monotonic() - self._shown_at > _SHOW_S:
                self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        self._progress(Progress(self._phase, self._all, self._bytes, self._total_keys))


@dataclass
class Run:
    """What the lanes of one copy share. moved: slots whose keys were found to be elsewhere."""

    remote: Remote
    survey: Survey
    options: CopyOptions
    generation: GenerationWriter
    journal: Journal
    halt: Halt
    pace: Pace
    tally: Tally
    resume_points: dict[tuple[str, int], ResumePoint] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    left: Callable[[Node], bool] = lambda node: False

    def connect(self, node: Node, db: int = 0) -> Connection:
        """Raises RemoteError."""
        remote = self.remote.at(node.host, node.port) if node.host else self.remote
        return remote.connect(db)


class NodeLeft(Exception):
    """The node has no slots any more: its keys are read from whoever has them now."""


def take(run: Run, db: int, batch: ScanBatch) -> bool:
    """Count what a batch says. True when keys turned out to be on another node: to be read again from there."""
    run.tally.count(db, batch.records)
    if batch.vanished:
        run.journal.vanish(batch.vanished)
    moved = False
    for key, refusal in batch.refused:
        if refusal.code in _ELSEWHERE and run.survey.mode == "cluster":
            run.moved.add(slot_of(key))
            moved = True
        else:
            run.journal.skip(db, key, str(refusal))
    return moved


def wanted_databases(connection: Connection, run: Run) -> set[int]:
    """Those with keys on this node, of those that were asked for."""
    try:
        present = set(keyspace(connection))
    except Refusal:
        present = set(run.survey.databases)
    return present if run.options.databases is None else present & run.options.databases


def keyspace(connection: Connection) -> dict[int, dict[str, int]]:
    """INFO KEYSPACE: per database `keys` and `expires`. Raises Refusal, RemoteError."""
    with understood(connection.address):
        found = parse_info(_text(connection.ask("INFO", "keyspace")))
        numbers: dict[int, dict[str, int]] = {}
        for name, value in found.items():
            if name.startswith("db") and name[2:].isdigit():
                pairs = dict(part.split("=") for part in value.split(","))
                numbers[int(name[2:])] = {which: int(pairs[which]) for which in ("keys", "expires") if which in pairs}
        return numbers


def run_id(connection: Connection) -> str:
    """Which process this is; empty where INFO is denied. Raises RemoteError."""
    try:
        return parse_info(_text(connection.ask("INFO", "server"))).get("run_id", "")
    except Refusal:
        return ""


def _text(reply: bytes) -> str:
    return reply.decode("utf-8", "replace")


def in_threads(run: Run, work: Iterable[Callable[[], None]]) -> None:
    """Side by side. When one fails the others halt where they are; raises the first failure."""
    failures: list[BaseException] = []

    def guarded(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the caller
            failures.append(error)
            run.halt.set()

    threads = [threading.Thread(target=guarded, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.halt.forget()
    if failures:
        raise next((error for error in failures if not isinstance(error, Halted)), failures[0])
