"""Which source a group of a migration may synchronise with, after the link was lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.domain.migration import Migration, MigrationPhase, SourceFacts
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, ObservedNode, Process
from cachekeep.plan.decision import Look
from cachekeep.plan.latch import may_follow

FOLLOWED = Migration(Address("10.0.0.5", 6379), MigrationPhase.FOLLOWING, 0.0, run_id="first")
SAME, OTHER = SourceFacts(run_id="first", keys=10), SourceFacts(run_id="second", keys=10)


def look(source: SourceFacts | None, *keys: int) -> Look:
    """keys: of each node of the group."""
    seen = {
        NodeKey("us-east-1", f"g-{n}"): ObservedNode(Process(n + 1, "1"), NodeFacts("9.0.0", keys=count))
        for n, count in enumerate(keys)
    }
    return Look(1.0, seen, {}, {}, source=source)


@pytest.mark.parametrize(
    ("source", "keys", "allowed"),
    [
        (SAME, (100, 100), True),
        (replace(SAME, keys=0), (100,), False),
        (replace(SAME, keys=0), (0,), True),
        (replace(OTHER, keys=50), (100, 7), True),
        (replace(OTHER, keys=49), (7, 100), False),
        (replace(OTHER, keys=0), (1,), False),
        (replace(OTHER, keys=0), (0,), True),
        (SourceFacts(refusal="cannot connect"), (100,), False),
        (None, (100,), False),
    ],
)
def test_a_source_is_followed_again_only_with_its_data(
    source: SourceFacts | None, keys: tuple[int, ...], allowed: bool
) -> None:
    assert may_follow(FOLLOWED, look(source, *keys)) is allowed


def test_before_it_was_ever_in_sync_and_without_a_migration_nothing_is_asked() -> None:
    assert may_follow(replace(FOLLOWED, run_id=""), look(replace(OTHER, keys=0), 100))
    assert may_follow(None, look(None, 100))
