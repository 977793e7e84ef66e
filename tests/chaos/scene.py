"""A group in a scenario: made through the API, written to by stock clients, hurt, and reckoned with afterwards."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.scenarios.conftest import Service, gone, wait_for

from . import settled
from .observed import Seen, ask, engines_of
from .oracle import Death, Verdict, judge
from .world import Group, World
from .writers import Load, clustered, plain, writing

NODE_TYPE = "cache.t4g.micro"
AVAILABLE_WITHIN_S = 60.0


class Scene:
    """One group of a service. more: what CreateReplicationGroup is asked for beside the id."""

    def __init__(self, service: Service, name: str, **more: Any) -> None:
        self.service, self.name, self.ec = service, name, service.client()
        self.world = World(service, random.Random(0))
        self.deaths: list[Death] = []
        self.loads: list[Load] = []
        more.setdefault("CacheNodeType", NODE_TYPE)
        more.setdefault("AutomaticFailoverEnabled", more.get("NumCacheClusters", 2) > 1)
        self.ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="scene", **more)
        self.wait_available()
        self.clustered = self.group()["ClusterEnabled"]

    def group(self) -> dict[str, Any]:
        return dict(self.ec.describe_replication_groups(ReplicationGroupId=self.name)["ReplicationGroups"][0])

    def shard(self, number: int = 0) -> dict[str, Any]:
        return dict(self.group()["NodeGroups"][number])

    def wait_available(self, deadline_s: float = AVAILABLE_WITHIN_S) -> dict[str, Any]:
        """The group, once it and all its members are available."""
        wait_for(lambda: self.group()["Status"] == "available" and self._members_available(), deadline_s)
        return self.group()

    def _members_available(self) -> bool:
        members = self.members()
        return set(members) == set(self.group()["MemberClusters"]) and all(
            it["CacheClusterStatus"] == "available" and it["CacheNodes"][0]["CacheNodeStatus"] == "available"
            for it in members.values()
        )

    def members(self) -> dict[str, dict[str, Any]]:
        """The group's cache clusters as described, by id."""
        found = self.ec.describe_cache_clusters(ShowCacheNodeInfo=True)["CacheClusters"]
        return {it["CacheClusterId"]: it for it in found if it.get("ReplicationGroupId") == self.name}

    def modify(self, **more: Any) -> dict[str, Any]:
        """ModifyReplicationGroup, applied immediately."""
        answer = self.ec.modify_replication_group(ReplicationGroupId=self.name, ApplyImmediately=True, **more)
        return dict(answer["ReplicationGroup"])

    def engines(self, shard: str = "0001") -> list[Seen]:
        return [it for it in engines_of(self.service, self.name) if it.shard == shard]

    def engine(self, member: str) -> Seen:
        return next(it for it in engines_of(self.service, self.name) if it.member == member)

    def primary(self, shard: str = "0001") -> Seen:
        """The engine that calls itself primary, once there is exactly one."""

        def only() -> Seen | None:
            found = [it for it in self.engines(shard) if (said := ask(it)) and said.primary]
            return found[0] if len(found) == 1 else None

        return wait_for(only)  # type: ignore[no-any-return]

    def replicas(self, shard: str = "0001") -> list[Seen]:
        return [it for it in self.engines(shard) if (said := ask(it)) and not said.primary]

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where writers connect: the primary endpoint, or the configuration endpoint."""
        told = self.group()["ConfigurationEndpoint"] if self.clustered else self.shard()["PrimaryEndpoint"]
        return told["Address"], told["Port"]

    @contextmanager
    def writing(self, writers: int = 2) -> Iterator[Load]:
        """Stock clients that write to the group for the length of a block."""
        connect, read = plain(*self.endpoint), None
        if self.clustered:
            connect = clustered(*self.endpoint)
        else:
            reader = self.shard()["ReaderEndpoint"]
            read = plain(reader["Address"], reader["Port"])
        with writing(connect, read, writers) as load:
            self.loads.append(load)
            yield load

    def hurt(self, seen: Seen, number: signal.Signals = signal.SIGKILL, *, in_sync: bool = True) -> None:
        """Kill or stop an engine. in_sync: somebody else has its data; otherwise all of it may be lost."""
        said = ask(seen)
        if said is None or said.primary:
            slots = said.slots if said else None
            self.world.died(self._group, f"{number.name} {seen.member}", slots, in_sync=in_sync)
        os.kill(seen.pid, number)

    @property
    def _group(self) -> Group:
        return Group(self.name, self.clustered, ("8.1", "9.1"), deaths=self.deaths)

    def reckon(self) -> Verdict:
        """Once everything is available: roles, replicas and processes are right, and no write of any load is lost
        for nothing."""
        self.wait_available()
        found, wrong = settled.found_in(self.world, self._group)
        records = {key: record for load in self.loads for key, record in load.records.items()}
        verdict = judge(records, found, self.deaths)
        problems = wrong + verdict.wrong + [text for load in self.loads for text in load.wrong]
        assert not problems, "; ".join(problems)
        return verdict

    def nothing_lost(self) -> None:
        """As reckon, and no write is lost at all."""
        assert self.reckon().losses == []

    def texts(self, *patterns: str) -> list[str]:
        """Events of the group and its members, oldest first; only those that match one of the patterns."""
        pages = self.ec.get_paginator("describe_events").paginate(Duration=600)
        events = [event for page in pages for event in page["Events"]]
        own = re.compile(rf"{re.escape(self.name)}(-(\d{{4}}-)?\d{{3}})?\Z")
        found = [it["Message"] for it in events if own.match(it["SourceIdentifier"])]
        return [text for text in found if not patterns or any(re.search(it, text) for it in patterns)]

    def delete(self) -> None:
        self.wait_available()
        self.ec.delete_replication_group(ReplicationGroupId=self.name)
        wait_for(lambda: gone(self.ec, "group", self.name))
        assert not engines_of(self.service, self.name)


@contextmanager
def scene(service: Service, name: str, **more: Any) -> Iterator[Scene]:
    """A group for the length of a block; deleted after it, and nothing of it may run then."""
    it = Scene(service, name, **more)
    yield it
    it.delete()


def slots_of(group: dict[str, Any]) -> dict[str, frozenset[int]]:
    """Node group id -> its slots, as described."""
    return {it["NodeGroupId"]: _numbers(it["Slots"]) for it in group["NodeGroups"]}


def _numbers(text: str) -> frozenset[int]:
    spans = [part.split("-") for part in text.split(",")]
    return frozenset(slot for span in spans for slot in range(int(span[0]), int(span[-1]) + 1))


def written(load: Load, at_least: int, deadline_s: float = 20.0) -> None:
    """Wait until every writer was acknowledged so many times more."""
    before = [writer.acknowledged for writer in load.writers]
    wait_for(lambda: all(w.acknowledged >= b + at_least for w, b in _pairs(load, before)), deadline_s)


def _pairs(load: Load, before: list[int]) -> Iterable[tuple[Any, int]]:
    return zip(load.writers, before, strict=True)
