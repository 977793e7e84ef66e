"""What the tests of following by PSYNC share: a capture in a thread, what its backup holds at a moment. Not a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from truth import Truth, record

from cachekeep.backup.catalog import Repository
from cachekeep.backup.coverage import Stretch, stretches
from cachekeep.backup.pacing import Halt
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.scratch_lanes import ScratchLanes
from cachekeep.backup.survey import survey
from cachekeep.blob.local import LocalBlobs
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.psync_follow import follow_by_psync
from cachekeep.follow.types import Choice, FollowOptions
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

WITHIN_S = 60.0
SOON = ("--repl-diskless-sync-delay", "0")


class Following:
    """A capture of `url` into `repository` while the block lasts; then it is halted, and its error raised."""

    def __init__(self, url: str, repository: Repository, **options: Any) -> None:
        self.repository, self.news = repository, list[str]()
        remote = open_remote(url)
        self.survey = survey(remote)
        self.monitor = Monitor("psync", self.news.append)
        self._stop = threading.Event()
        wanted = FollowOptions(**{"source": "psync", "max_lag_s": 0.3, "patience_s": WITHIN_S, **options})
        choice = Choice("psync", "a test asked for it")
        args = (remote, self.survey, repository, wanted, choice, self.monitor, Halt(self._stop), self.survey.nodes)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=args, daemon=True)

    def _run(self, *args: Any) -> None:
        try:
            follow_by_psync(*args)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the test
            self.error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.halt()
        if self.error and exc[0] is None:
            raise self.error

    def halt(self) -> None:
        self._stop.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()

    def wait(self, ask: Callable[[Any], Any], what: str) -> Any:
        """ask: of a FollowStatus."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            if self.error:
                raise self.error
            if found := ask(self.monitor.status()):
                return found
            time.sleep(0.01)
        raise AssertionError(f"not within {WITHIN_S:g} s: {what}; {self.monitor.status()}; {self.news}")

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.survey.clock_ahead_ms

    def settled(self) -> int:
        """A moment at which all that was done before the call is here and durable. Nothing may be written meanwhile."""
        asked = self.now_ms()
        self.wait(lambda seen: (seen.covered_until_ms or 0) > asked, "what was done is here")
        moment = self.now_ms()
        self.wait(lambda seen: (seen.durable_until_ms or 0) > moment, "the moment is durable")
        return moment


@dataclass(frozen=True)
class Socket:
    """What truth.record asks for, of an engine on a socket: `record(one, unix_socket_path=one.path)`."""

    path: str
    version: str
    host: str = "localhost"
    port: int = 0


def repository_in(folder: Path | str) -> Repository:
    return Repository.open_or_create(LocalBlobs(Path(folder)))


def covered(repository: Repository, name: str) -> list[Stretch]:
    return stretches(GenerationReader.open(repository, name).chain.entries)


def gaps(repository: Repository, name: str) -> list[dict[str, Any]]:
    return [line for line in GenerationReader.open(repository, name).log_lines() if line["event"] == "gap"]


def truth_at(
    repository: Repository, name: str, scratch: LocalScratch, version: str, at_ms: int | None, lane: str = "only"
) -> Truth:
    """What an engine has that was given what the backup holds of that moment."""
    with ScratchLanes(scratch, at_ms) as lanes:
        loaded = lanes.loaded(GenerationReader.open(repository, name), lane)
        return record(Socket(loaded.name, version), unix_socket_path=loaded.name.removeprefix("unix://"))
