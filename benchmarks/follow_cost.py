"""What a SET costs the source while it is followed, by each method, beside nothing, a replica, and a mere listener."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.backup_engines import Server, described, server
from benchmarks.backup_meter import metered
from benchmarks.backup_wire import HOST, Wire
from benchmarks.figure import Figure, noted
from benchmarks.follow_run import Capture
from benchmarks.installation import wait_for
from cachekeep.domain.engine import EngineInstall

_CHANGES, _KEYS = 300_000, 100_000
_DEADLINE_S = 60.0
# So that nothing is ended for being slow: the cost is measured, not the limits.
_UNLIMITED = ("--client-output-buffer-limit", "replica 0 0 0", "--client-output-buffer-limit", "pubsub 0 0 0")


def side_by_side(install: EngineInstall, place: Path) -> Iterator[Figure]:
    """The same load, each time on a new server with the same keys."""
    name = described(install)
    beside: dict[str, float] = {}
    for what, (listening, options) in _ways(install, place).items():
        with server(install, *_UNLIMITED, *options) as source:
            _load(source, _KEYS)
            with listening(source) as cost:
                before_s = source.cpu_s()
                seconds = _load(source, _CHANGES)
                beside[what] = (source.cpu_s() - before_s) / _CHANGES * 1e6
                how = f"{_CHANGES:,} SETs of {_KEYS:,} keys as fast as it gets, {_CHANGES / seconds:,.0f}/s{cost()}"
        ratio = ", ".join(
            f"{beside[what] / beside[other]:.2f} times {_TITLES[other]}"
            for other in ("nothing", "replica", "listener")
            if other in beside and other != what
        )
        ratio = f" ({ratio})" if ratio else ""
        yield noted(f"server's CPU a SET, {_TITLES[what]}, {name}", beside[what], _us, more=ratio, how=how)


_TITLES = {
    "nothing": "not followed",
    "replica": "a plain replica",
    "listener": "notifications with a mere listener",
    "psync": "followed by psync",
    "tracking": "followed by tracking",
    "keyspace": "followed by keyspace",
}
_NOTIFY = ("--notify-keyspace-events", "AE")
Cost = Callable[[], str]
_Way = Callable[[Server], AbstractContextManager[Cost]]


def _ways(install: EngineInstall, place: Path) -> dict[str, tuple[_Way, tuple[str, ...]]]:
    def followed(method: str) -> _Way:
        return lambda source: _followed(source, place / method, method)

    return {
        "nothing": (_nothing, ()),
        "replica": (lambda source: _replica(source, install), ()),
        "listener": (_listener, _NOTIFY),
        "psync": (followed("psync"), ()),
        "tracking": (followed("tracking"), ()),
        "keyspace": (followed("keyspace"), _NOTIFY),
    }


def _load(source: Server, changes: int) -> float:
    words = map(str, (source.port, 0, changes, _KEYS))
    return float(metered([sys.executable, "-m", "benchmarks.follow_load", *words]).page["seconds"])


@contextmanager
def _nothing(source: Server) -> Iterator[Cost]:
    yield lambda: ""


@contextmanager
def _replica(source: Server, install: EngineInstall) -> Iterator[Cost]:
    with server(install, "--replicaof", f"{HOST} {source.port}") as replica:
        wait_for(
            lambda: replica.info("replication")["master_link_status"] == "up", _DEADLINE_S, "the replica is linked"
        )
        yield lambda: ""


@contextmanager
def _listener(source: Server) -> Iterator[Cost]:
    """Takes notifications and throws them away."""
    with Wire(source.port) as wire:
        wire.ask("PSUBSCRIBE", "__keyevent@*__:*")
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    wire.take()
                except OSError:
                    return
                wire.held(1 << 30)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield lambda: ""
        finally:
            ended.set()
            source.ask("PUBLISH", "__keyevent@0__:end", "")  # wakes it up
            thread.join()


@contextmanager
def _followed(source: Server, place: Path, method: str) -> Iterator[Cost]:
    with Capture(source.url, place, method, "--max-lag", "1s", "--reconcile", "0") as capture:
        capture.follows()
        before_s, _ = capture.now()

        def cost() -> str:
            cpu_s, rss = capture.now()
            return f"; the follower took {(cpu_s - before_s) / _CHANGES * 1e6:.1f} us each, {rss / 1e6:.0f} MB"

        yield cost
        capture.seal()


def _us(value: float) -> str:
    return f"{value:.2f} us"
