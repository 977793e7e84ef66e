"""What the tests of `backup guard` share: an upgrade at one address, a writer that never stops, a guarded upgrade."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import valkey

from cachekeep import backups
from cachekeep.backup.catalog import Repository
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey import survey
from cachekeep.blob.local import LocalBlobs
from cachekeep.follow.guard import guard
from cachekeep.follow.guard_types import Findings, GuardOptions, GuardReport
from cachekeep.follow.types import FollowOptions
from cachekeep.remote.open import open_remote

TICK = b"tick"
WITHIN_S = 60.0
DUMP = "dump.rdb"
# More keys than are ever written before anybody listens: fewer that are missing may be deletions, and are left alone.
BULK = {b"bulk:%d" % number for number in range(40)}


def write_bulk(server: Any, value: str) -> None:
    server.ask("MSET", *(word for key in sorted(BULK) for word in (key, value)))


@contextmanager
def ticking(server: Any, key: bytes = TICK) -> Iterator[threading.Lock]:
    """A key is written twenty times a second, whether the server is there or not, as an application would.

    Who holds the lock keeps it from writing.
    """
    stop, quiet = threading.Event(), threading.Lock()

    def run() -> None:
        number = 0
        with valkey.Valkey(host=server.host, port=server.port, socket_timeout=5) as client:
            while not stop.wait(0.05):
                number += 1
                with quiet:
                    try:
                        client.set(key, number)
                    except valkey.ValkeyError:
                        client.connection_pool.disconnect()

    thread = threading.Thread(target=run, name="ticking")
    thread.start()
    try:
        yield quiet
    finally:
        stop.set()
        thread.join()


class Upgrade:
    """A server that is replaced at its address. folder: where its `dump.rdb` is."""

    def __init__(self, server: Any, start_server: Callable[..., Any], wait_until: Callable[..., Any]) -> None:
        self.server, self._start, self._wait_until = server, start_server, wait_until

    @property
    def rdb(self) -> Path:
        return Path(self.server.folder / DUMP)

    def save(self, to: Path) -> None:
        """A copy of the data as it is now."""
        self.server.ask("SAVE")
        shutil.copy(self.rdb, to)

    def crash(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        self._wait_until(lambda: not _answers(self.server), "the server is gone")

    def shut_down_saving(self) -> None:
        with suppress(valkey.ConnectionError):
            self.server.ask("SHUTDOWN", "SAVE")
        self._wait_until(lambda: not _answers(self.server), "the server is gone")

    def start(self, version: str, *arguments: str, rdb: Path | None = None, first: Any = None) -> None:
        """Another one at the address, with that file; without one, empty. first: done before it listens there."""
        host, folder = self.server.host, self.server.folder
        self.rdb.unlink(missing_ok=True)
        if rdb is not None:
            shutil.copy(rdb, self.rdb)
        at = ("--bind", host) if first is None else ()
        fresh = self._start(version, *at, "--dir", str(folder), *arguments, wait=first is not None)
        if first is not None:
            first(fresh)
            fresh.ask("CONFIG", "SET", "bind", f"{host} {fresh.host}")
        self.server = replace(fresh, host=host, folder=folder)
        self._wait_until(lambda: _answers(self.server), "the server is back")

    def listened_to(self) -> None:
        """Wait until both have subscribed: the capture, and who hears what is written from the first moment."""

        def both() -> bool:
            return len(self.server.ask("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) >= 2

        self._wait_until(both, "both listen", WITHIN_S)

    def swap(self, version: str) -> None:
        """An orderly upgrade."""
        kept = self.rdb.with_suffix(".kept")
        self.shut_down_saving()
        shutil.move(self.rdb, kept)
        self.start(version, rdb=kept)


def _answers(server: Any) -> bool:
    try:
        return bool(server.ask("PING") == b"PONG")
    except valkey.ConnectionError:
        return False


def repository_at(folder: Path) -> Repository:
    return Repository.open_or_create(LocalBlobs(folder))


def guarded(
    server: Any,
    folder: Path,
    upgrade: Callable[[], int | None],
    offer: Callable[[Findings], bool] = lambda findings: True,
    user: str | None = None,
    password: str | None = None,
    news: Callable[[str], None] = lambda sentence: None,
    **options: Any,
) -> GuardReport:
    """Guard an upgrade. options: of FollowOptions."""
    remote = open_remote(server.url, user=user, password=password)
    follow = FollowOptions(**{"max_lag_s": 0.2, "rollover_s": 0.0, "reconcile_s": 0.0, "patience_s": 60.0, **options})
    return guard(
        remote,
        survey(remote),
        repository_at(folder),
        GuardOptions(follow),
        scratch=backups.scratch(),
        upgrade=lambda lost: upgrade(),
        offer=offer,
        on_news=news,
    )


def captured(folder: Path, db: int, key: bytes, wait_until: Callable[..., Any]) -> None:
    """Wait until the backup has a record of a change of this key."""

    def has() -> bool:
        opened = repository_at(folder)
        name = opened.generations()[-1].name
        records = GenerationReader.open(opened, name, unfinished=True).records(("changes",))
        return any((record.db, record.key) == (db, key) for record in records)

    wait_until(has, f"{key!r} is captured", WITHIN_S)
