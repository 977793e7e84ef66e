"""A living copy of a cluster in another: what is not copied, whatever the source looks like just then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import valkey

from cachekeep.mirror.shards import ShardMirror
from cachekeep.remote.open import open_remote

KEYS = 200


@pytest.fixture
def both(start_cluster: Callable[..., list[Any]]) -> Iterator[tuple[Any, Any, ShardMirror]]:
    """Source, target and the copy, in sync."""
    (source,), (target,) = start_cluster(primaries=1), start_cluster(primaries=1)
    source.ask("MSET", *(word for n in range(KEYS) for word in (f"{{k}}{n}", n)))
    mirror = ShardMirror(open_remote(source.url), open_remote(target.url), ())
    mirror.begin()
    yield source, target, mirror
    mirror.close()


def _answers(node: Any) -> bool:
    try:
        return bool(node.ask("PING"))
    except valkey.ConnectionError:
        return False


def test_a_node_started_anew_is_not_copied_from_although_it_gets_its_slots_late(
    both: tuple[Any, Any, ShardMirror], start_server: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    """Without slots it has as few keys as it should; with them it has lost them all."""
    source, target, mirror = both

    def ticked(ask: Callable[[], Any]) -> Any:
        mirror.tick()
        return ask()

    wait_until(lambda: ticked(mirror.in_sync) and target.ask("DBSIZE") == KEYS, "all keys are there")
    source.stop()
    wait_until(lambda: not _answers(source), "it is gone")
    start_server("9.1", "--cluster-enabled", "yes", "--bind", source.host, wait=False)
    wait_until(lambda: _answers(source), "it is back")
    wait_until(lambda: ticked(lambda: not mirror.is_covered() and not mirror.away()), "it is followed without slots")
    assert target.ask("DBSIZE") == KEYS
    source.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: ticked(lambda: mirror.held), "it is not copied from")
    assert mirror.away() == frozenset(mirror.held)
    assert target.ask("DBSIZE") == KEYS
    assert not mirror.in_sync()
