"""What happens to a source while it is followed: connections end, it restarts, another one takes over. Not a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import valkey
from churn import Churn
from churn_door import Door

Loss = Callable[["Pair", Churn], None]


class Pair:
    """A primary behind a door, with a replica that can take over. primary: a list of one, which is who it is now."""

    def __init__(
        self, start_server: Callable[..., Any], host: str, wait_until: Callable[..., Any], version: str
    ) -> None:
        more = ["--repl-diskless-sync-delay", "0", "--notify-keyspace-events", "AE"]
        if version not in ("6.2",):
            more += ["--enable-debug-command", "yes"]
        self.version, self._wait_until = version, wait_until
        self.both = [start_server(version, *more) for _ in range(2)]
        self.primary, self._replica = self.both[:1], self.both[1]
        self._attach()
        self.door = Door(host, self.primary[0])

    def _attach(self) -> None:
        self._replica.ask("REPLICAOF", self.primary[0].host, self.primary[0].port)
        self._linked()

    def _linked(self) -> None:
        self._wait_until(
            lambda: b"master_link_status:up" in self._replica.ask("INFO", "replication"), "the replica is linked", 60
        )

    def restart(self) -> None:
        """As by an operator: it saves, starts again as another process would, and loads."""
        primary = self.primary[0]
        before = _run_id(primary)
        primary.ask("CONFIG", "SET", "save", "3600 1000000000")
        _last_words(primary, "DEBUG", "RESTART")
        self._wait_until(lambda: _run_id(primary) != before and primary.ask("PING"), "it is there again", 60)

    def take_over(self) -> None:
        """The replica becomes the primary, whatever it has; who was it follows, behind the same door."""
        self._linked()
        old, new = self.primary[0], self._replica
        new.ask("REPLICAOF", "NO", "ONE")
        self.door.lead_to(new)
        self.primary[0], self._replica = new, old
        self._attach()


def _run_id(server: Any) -> bytes:
    lines = server.ask("INFO", "server").splitlines()
    return next(line for line in lines if line.startswith(b"run_id:"))


def _last_words(server: Any, *words: str) -> None:
    """A command that ends the connection which it came by."""
    try:
        server.ask(*words)
    except valkey.ConnectionError:
        return
    raise AssertionError(f"{words} was answered")


def kill_clients(pair: Pair, churn: Churn) -> None:
    for kind in ("normal", "pubsub", "replica"):
        pair.primary[0].ask("CLIENT", "KILL", "TYPE", kind)


def cut(pair: Pair, churn: Churn) -> None:
    pair.door.cut()


def restart(pair: Pair, churn: Churn) -> None:
    pair.restart()


def take_over(pair: Pair, churn: Churn) -> None:
    pair.take_over()


def out_of_reach(pair: Pair, churn: Churn) -> None:
    """For a while, during which it is written to."""
    pair.door.lead_to(None)
    churn.do(500)
    pair.door.lead_to(pair.primary[0])


def flush_one(pair: Pair, churn: Churn) -> None:
    pair.primary[0].ask("FLUSHDB", db=1)


def flush_all(pair: Pair, churn: Churn) -> None:
    pair.primary[0].ask("FLUSHALL")


def swap(pair: Pair, churn: Churn) -> None:
    pair.primary[0].ask("SWAPDB", 0, 5)
