"""How an address is talked to follows the node that has it, not those that had it before."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.domain.transit import Listening, Transit
from cachekeep.engine.secured import Secured
from cachekeep.host.authority import Authority

PLACE, ELSEWHERE = Address("127.64.0.3", 6379), Address("127.64.0.4", 6379)
PLAIN = CacheCluster(
    "us-east-1", "plain", Engine.REDIS, EngineVersion((7, 0, 15)), "cache.t4g.micro", 6379, "default.redis7", "default",
    Upkeep("mon:03:00-mon:04:00", "05:00-06:00"), 1.0, (CacheNode("0001", PLACE, "us-east-1a", 1.0),),
)  # fmt: skip
SECRET = replace(PLAIN, id="secret", created_at=2.0, transit=Transit.REQUIRED)


@pytest.fixture
def secured(tmp_path: Path) -> Secured:
    authority = Authority(tmp_path, 3600)
    authority.certificate()
    return Secured(authority.ca_file)


def ways(secured: Secured) -> list[tuple[int, bool]]:
    return [(address.port, isinstance(context, ssl.SSLContext)) for address, context in secured.ways(PLACE)]


@pytest.mark.parametrize(
    "before", [PLAIN, replace(SECRET, created_at=1.5, transit=Transit.OFF)], ids=["other", "same name"]
)
def test_a_new_node_is_not_talked_to_as_the_one_that_had_its_address(secured: Secured, before: CacheCluster) -> None:
    secured.learn([before])
    secured.seen(PLACE, Listening(PLACE.port))
    assert ways(secured) == [(6379, False)]
    secured.learn([SECRET])
    assert ways(secured) == [(6379, True)]


def test_one_of_the_same_cluster_neither(secured: Secured) -> None:
    """Its address was given up and comes back after the cluster has changed."""
    secured.learn([PLAIN])
    secured.seen(PLACE, Listening(PLACE.port))
    moved = replace(PLAIN, nodes=(replace(PLAIN.nodes[0], address=ELSEWHERE),))
    secured.learn([moved])
    assert ways(secured) == [(6379, False)]  # what was there may have to be ended
    secured.learn([replace(moved, transit=Transit.REQUIRED)])
    secured.learn([replace(PLAIN, transit=Transit.REQUIRED)])
    assert ways(secured) == [(6379, True)]


def test_a_node_that_changes_is_talked_to_as_it_was_seen_first(secured: Secured) -> None:
    secured.learn([PLAIN])
    secured.learn([replace(PLAIN, transit=Transit.PREFERRED)])
    assert ways(secured) == [(6379, False), (26379, False)]
    secured.seen(PLACE, Listening(26379))
    secured.learn([PLAIN])
    assert ways(secured) == [(26379, False), (6379, False)]
