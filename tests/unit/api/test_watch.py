"""The pages of watched targets: add, list, remove, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cachekeep.api.watch import MOST_TARGETS, answered, listed
from cachekeep.codec.target_url import TargetUrlError, parse_target_url
from cachekeep.domain.cache_cluster import Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.faults import Fault
from cachekeep.domain.metrics import WatchedNode, WatchedTarget
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.store.sqlite import SqliteStore

REGION, TYPES = "eu-west-1", ("cache.r7g.large",)
ADD = {"action": "add", "name": "Shop", "url": "rediss://app@Shop.example", "password": "sesame"}
NODE = WatchedNode("shop", "0001", Address("10.0.0.1", 6379))


GROUP = ReplicationGroup(
    region=REGION,
    id="shop",
    description="of our own",
    engine=Engine.VALKEY,
    version=EngineVersion((9, 1)),
    node_type="cache.t4g.micro",
    port=6379,
    parameter_group="default.valkey9",
    subnet_group="default",
    upkeep=Upkeep("sun:01:00-sun:02:00", "03:00-04:00"),
    created_at=1.0,
    node_groups=(),
)


class Watching:
    """Finds one node behind every endpoint, or nothing for a reason."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.trouble: str | None = None

    def watched(self, region: str) -> list[dict[str, Any]]:
        return [{"id": target.id, "url": target.url} for target in self._store.all(WatchedTarget, region)]

    async def explored(self, target: WatchedTarget) -> WatchedTarget:
        if self.trouble is not None:
            raise WorldError(self.trouble)
        return replace(target, nodes=target.nodes or (NODE,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.sqlite")
    yield made
    made.close()


@pytest.fixture
def watching(store: SqliteStore) -> Watching:
    return Watching(store)


def ask(watching: Watching, store: SqliteStore, body: Mapping[str, object]) -> dict[str, Any]:
    return asyncio.run(answered(watching, store, TYPES, REGION, body, 7.0))


def refused(watching: Watching, store: SqliteStore, **more: object) -> str:
    before = store.all(WatchedTarget)
    with pytest.raises(Fault) as caught:
        ask(watching, store, {**ADD, **more})
    assert store.all(WatchedTarget) == before
    return caught.value.message


def test_a_target_is_kept_with_its_login_and_listed_without(watching: Watching, store: SqliteStore) -> None:
    answer = ask(watching, store, {**ADD, "node_type": "cache.r7g.large"})
    assert answer == {"target": {"id": "shop", "url": "rediss://shop.example:6379"}, "problem": None}
    assert store.all(WatchedTarget) == [
        WatchedTarget(
            REGION, "shop", "rediss://shop.example:6379", "app", "sesame", "", "cache.r7g.large", 7.0, (NODE,)
        )
    ]
    assert listed(watching, REGION) == {"targets": [answer["target"]]}
    assert listed(watching, "us-east-1") == {"targets": []}
    assert ask(watching, store, {"action": "remove", "name": "SHOP"}) == {"removed": "shop"}
    with pytest.raises(Fault, match="no watched target shop"):
        ask(watching, store, {"action": "remove", "name": "shop"})


def test_what_does_not_answer_is_added_by_force_only(watching: Watching, store: SqliteStore) -> None:
    watching.trouble = "it is gone"
    assert refused(watching, store) == "shop is not watched: it is gone. --force adds it all the same."
    assert refused(watching, store, force="yes").startswith("shop is not watched")
    assert ask(watching, store, {**ADD, "force": True})["problem"] == "it is gone"
    assert store.all(WatchedTarget)[0].nodes == ()


def test_a_new_password_leaves_the_names_of_nodes_as_they_are(watching: Watching, store: SqliteStore) -> None:
    ask(watching, store, ADD)
    (before,) = store.all(WatchedTarget)
    ask(watching, store, {**ADD, "password": "another"})
    assert store.all(WatchedTarget) == [replace(before, password="another")]
    assert "watched already, at rediss://shop.example:6379" in refused(watching, store, url="redis://else")
    assert "watched already, as shop" in refused(watching, store, name="other")


@pytest.mark.parametrize("name", ["", "9lives", "a--b", "a_b", "a" * 41, "a-", None, 7])
def test_names_are_those_that_elasticache_takes(watching: Watching, store: SqliteStore, name: object) -> None:
    assert refused(watching, store, name=name)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"url": "http://x"}, "SCHEME://HOST:PORT"),
        ({"url": "redis://user:hush@host"}, "the URL holds a password"),
        ({"url": "redis://"}, "names no host"),
        ({"url": "redis://host:0"}, "names no port"),
        ({"url": "redis://host:99999"}, "cannot be read"),
        ({"url": "redis://host?x=hush"}, "more than a host and a port"),
        ({"url": "memcached://host"}, "A login is for Redis and Valkey"),
        ({"url": "redis://host", "ca_file": "/ca.pem"}, "A CA file is for TLS"),
        ({"ca_file": "ca.pem"}, "must be an absolute path"),
        ({"password": ""}, "User app needs a password"),
        ({"password": ["hush"]}, "password must be a text"),
        ({"password": "hush" * 999}, "password must be a text"),
        ({"node_type": "cache.none"}, "no node type that is known"),
        ({"action": "steal"}, "must be add or remove"),
        ({"action": None}, "must contain the parameter action"),
    ],
)
def test_bad_requests_are_refused_and_no_secret_comes_back(
    watching: Watching, store: SqliteStore, more: dict[str, object], words: str
) -> None:
    text = refused(watching, store, **more)
    assert words in text
    assert "hush" not in text


@pytest.mark.parametrize(("there", "name"), [("shop", "shop"), ("shop-001", "shop"), ("shop", "shop-0001-002")])
@pytest.mark.parametrize("kind", ["group", "target"])
def test_a_name_that_would_mix_with_another_is_refused(
    watching: Watching, store: SqliteStore, kind: str, there: str, name: str
) -> None:
    with store.transaction() as work:
        target = WatchedTarget(REGION, there, "redis://elsewhere.example:6379")
        work.insert(replace(GROUP, id=there) if kind == "group" else target)
    assert "shop" in refused(watching, store, name=name)
    assert ask(watching, store, {**ADD, "name": "shop-front"})["problem"] is None


def test_so_many_targets_and_no_more(watching: Watching, store: SqliteStore) -> None:
    with store.transaction() as work:
        for number in range(MOST_TARGETS):
            work.insert(WatchedTarget("us-east-1", f"t{number}", f"redis://t{number}:6379"))
    assert refused(watching, store) == f"At most {MOST_TARGETS} targets are watched; remove some first."


@pytest.mark.parametrize(
    ("text", "url", "tls", "resp"),
    [
        ("redis://h", "redis://h:6379", False, True),
        ("VALKEYS://h:7000/0", "valkeys://h:7000", True, True),
        ("rediss://[2001:db8::1]:6380", "rediss://[2001:db8::1]:6380", True, True),
        ("memcached://h", "memcached://h:11211", False, False),
        ("memcacheds://h:1", "memcacheds://h:1", True, False),
    ],
)
def test_urls(text: str, url: str, tls: bool, resp: bool) -> None:
    parsed = parse_target_url(text)
    assert (str(parsed), parsed.tls, parsed.speaks_resp) == (url, tls, resp)
    assert parse_target_url(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text", ["redis://[::1", "redis://a b", "redis://a:x", "redis://a/b", "redis://a#b", "a:1", ""]
)
def test_what_is_no_url_says_so(text: str) -> None:
    with pytest.raises(TargetUrlError):
        parse_target_url(text)
