"""Following a cluster loses nothing: slots that move, also at once, and primaries that fail over, under churn."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import valkey
from churn import Churn
from churn_follow import Following
from test_churn import measure_of
from test_copy_cluster import move_slot
from valkey.crc import key_slot

TAGS = 30
LIMITS = ("--cluster-node-timeout", "5000")


def primaries(nodes: Sequence[Any]) -> list[Any]:
    return [node for node in nodes if b"role:master" in node.ask("INFO", "replication") and _slots(node)]


def _slots(node: Any) -> list[tuple[int, int]]:
    """Ranges that it owns by itself."""
    mine = node.ask("CLUSTER", "MYID")
    return [(first, last) for first, last, owner, *_ in node.ask("CLUSTER", "SLOTS") if owner[2] == mine]


def _owned(node: Any) -> list[int]:
    """Slots of the churn's tags."""
    wanted = {key_slot(b"{%d}" % tag) for tag in range(TAGS)}
    return [slot for slot in sorted(wanted) if any(first <= slot <= last for first, last in _slots(node))]


def _settled(nodes: Sequence[Any], wait_until: Callable[..., Any]) -> None:
    """All primaries agree on who has which slots."""

    def agree() -> bool:
        seen = {
            str(sorted((first, last, owner[2]) for first, last, owner, *_ in node.ask("CLUSTER", "SLOTS")))
            for node in primaries(nodes)
        }
        return len(seen) == 1 and all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes)

    wait_until(agree, "the nodes agree", 60)


class Cluster:
    """What happens to its slots and nodes."""

    def __init__(self, nodes: list[Any], wait_until: Callable[..., Any], seed: int) -> None:
        self.nodes, self._wait_until, self._random = nodes, wait_until, random.Random(seed)

    def move_some(self) -> None:
        """Slot by slot and key by key."""
        source, target, *others = self._random.sample(primaries(self.nodes), 3)
        for slot in _owned(source)[:3]:
            move_slot(slot, source, target, others)

    def move_at_once(self) -> None:
        """As Valkey 9 does it."""
        source, target, *_ = self._random.sample(primaries(self.nodes), 3)
        slots = [word for slot in _owned(source)[:4] for word in (slot, slot)]
        source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *slots, "NODE", target.ask("CLUSTER", "MYID"))
        self._wait_until(lambda: set(slots) <= set(_owned(target)), "the slots have moved", 60)

    def fail_over(self) -> None:
        """A replica takes over, with everything that its primary has."""
        replica = self._random.choice([node for node in self.nodes if b"role:slave" in node.ask("INFO", "replication")])
        replica.ask("CLUSTER", "FAILOVER")
        self._wait_until(lambda: b"role:master" in replica.ask("INFO", "replication"), "it has taken over", 60)

    def cut(self) -> None:
        for node in self.nodes:
            for kind in ("normal", "pubsub"):
                with suppress(valkey.ResponseError):
                    node.ask("CLIENT", "KILL", "TYPE", kind)

    def settled(self) -> None:
        _settled(self.nodes, self._wait_until)


def ride(cluster: Cluster, folder: Path, method: str, acts: list[str], steps: int, seed: int) -> Following:
    churn_of = {"tags": TAGS, "large": 3000, "commands_per_s": 2000}
    options = {"source": method, "max_lag_s": 0.5}
    if method == "poll":
        options |= {"reconcile_s": 0.2, "reconcile_keys_per_s": None}
    with Churn(cluster.nodes, seed=seed, **churn_of) as churn:
        churn.fill(1000)
        with Following(cluster.nodes[0].url, folder, cluster.nodes, **options) as following:
            churn.resume()
            churn.do(steps)
            following.moment(churn)
            for act in acts:
                churn.do(steps)
                getattr(cluster, act)()
                churn.do(steps)
                cluster.settled()
                following.moment(churn)
            following.stop()
    return following


def test_no_change_is_lost_while_slots_of_a_cluster_move(
    start_cluster: Any, start_server: Any, wait_until: Any, tmp_path: Path
) -> None:
    cluster = Cluster(start_cluster("9.1", arguments=LIMITS), wait_until, 1)
    following = ride(cluster, tmp_path / "r", "tracking", ["move_some", "move_at_once"], 700, 5)
    following.check(start_server("9.1"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tracking", "keyspace", "poll"])
@pytest.mark.parametrize("version", ["6.2", "7.0", "8.1", "9.1"])
def test_no_change_is_lost_through_moves_and_failovers_of_a_cluster(
    start_cluster: Any, start_server: Any, wait_until: Any, tmp_path: Path, version: str, method: str
) -> None:
    notify = ("--notify-keyspace-events", "AE") if method == "keyspace" else ()
    nodes = start_cluster(version, replicas=1, arguments=(*LIMITS, *notify))
    acts = ["fail_over", "move_some", "cut", "fail_over", "move_some"]
    if version == "9.1":
        acts.insert(2, "move_at_once")
    following = ride(Cluster(nodes, wait_until, 7), tmp_path / "r", method, acts, 3000, 13)
    following.check(start_server(version), measure_of(method, version))
