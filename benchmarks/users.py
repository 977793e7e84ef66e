"""How soon a change of a hundred users is in force on fifty nodes: from the first request until all are `active`.

The nodes are asked, not the service: when it says that the change is over, every one of them is logged in to as one
who may now and as one who may not any more. Engines, service and client share the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from statistics import median
from typing import Any

import valkey
from valkey.exceptions import AuthenticationError, NoPermissionError

from benchmarks import groups, wire
from benchmarks.failover import part
from benchmarks.figure import Figure, below, noted, seconds
from benchmarks.installation import BenchmarkError, Installation, installation, wait_for
from benchmarks.machine import cpu_s

USERS, GROUPS, NODES_EACH = 100, 10, 5
LIMIT_S = 1.0
ROUNDS = 4
_DEADLINE_S = 120.0
_ASK_EVERY_S = 0.05
_GUARD = "guard"
_PASSWORD = "a-password-of-the-benchmark"
_MAY_WRITE, _MAY_READ = "on ~* +@all", "on ~* +@read"

Nodes = Sequence[tuple[str, int]]


def measure() -> Generator[Figure, None, None]:
    """Figures as they come."""
    with installation() as it:
        yield from part("users", lambda: _users(it))


def _users(it: Installation) -> Iterator[Figure]:
    client = it.client()
    first, second = [[f"{letter}{number:03d}" for number in range(USERS)] for letter in "ab"]
    for name in (*first, *second):
        client.create_user(
            UserId=name, UserName=name, Engine="valkey", AccessString=_MAY_WRITE, Passwords=[_PASSWORD]
        )  # fmt: skip
    client.create_user_group(UserGroupId=_GUARD, Engine="valkey", UserIds=first)
    wait_for(lambda: _is_settled(client), _DEADLINE_S, "the user group is active")
    nodes = _guarded_nodes(client)
    how = f"{len(nodes)} nodes in {GROUPS} groups, median of {ROUNDS}, until described as active; "
    taken, used = _timed(it, client, lambda number: _exchange(it, client, nodes, first, second, number))
    each = how + "one ModifyUserGroup: all go, as many others come"
    yield below(f"{USERS} users exchanged on {len(nodes)} nodes", taken, LIMIT_S, seconds, how=each)
    yield noted("the service's processor time for it", used, seconds)
    taken, used = _timed(it, client, lambda number: _modify(it, client, nodes, first, number))
    each = how + f"{USERS} ModifyUser one after the other, each with another access string"
    yield below(f"{USERS} users modified on {len(nodes)} nodes", taken, LIMIT_S, seconds, how=each)
    yield noted("the service's processor time for those", used, seconds)


def _timed(it: Installation, client: Any, change: Callable[[int], float]) -> tuple[float, float]:
    """Medians of wall and of the service's processor time, in seconds."""
    walls, used = [], []
    for number in range(ROUNDS):
        before = cpu_s(it.pid)
        walls.append(change(number))
        used.append(cpu_s(it.pid) - before)
    return median(walls), median(used)


def _guarded_nodes(client: Any) -> Nodes:
    names = [f"guarded-{number}" for number in range(GROUPS)]
    for name in names:
        client.create_replication_group(
            ReplicationGroupId=name, ReplicationGroupDescription="benchmark", Engine="valkey",
            CacheNodeType=groups.NODE_TYPE, NumCacheClusters=NODES_EACH, UserGroupIds=[_GUARD],
        )  # fmt: skip
    found = [groups.wait_available(client, name, _DEADLINE_S) for name in names]
    members = [member for group in found for member in group["NodeGroups"][0]["NodeGroupMembers"]]
    return [(member["ReadEndpoint"]["Address"], member["ReadEndpoint"]["Port"]) for member in members]


def _exchange(it: Installation, client: Any, nodes: Nodes, first: list[str], second: list[str], number: int) -> float:
    gone, come = (second, first) if number % 2 else (first, second)
    lists = {f"UserIdsTo{word}.member.{at}": name
             for word, names in (("Add", come), ("Remove", gone))
             for at, name in enumerate(names, 1)}  # fmt: skip
    took = _until_settled(it, client, [wire.signed(it, "ModifyUserGroup", UserGroupId=_GUARD, **lists)])
    for node in nodes:
        if not _may_write(node, come[-1]) or _comes_in(node, gone[0]):
            raise BenchmarkError(f"the change is said to be over, and has not reached {node}")
    return took


def _modify(it: Installation, client: Any, nodes: Nodes, users: list[str], number: int) -> float:
    rules = _MAY_WRITE if number % 2 else _MAY_READ
    requests = [wire.signed(it, "ModifyUser", UserId=user, AccessString=rules) for user in users]
    took = _until_settled(it, client, requests)
    for node in nodes:
        if any(_may_write(node, user) is not bool(number % 2) for user in (users[0], users[-1])):
            raise BenchmarkError(f"the change is said to be over, and has not reached {node}")
    return took


def _until_settled(it: Installation, client: Any, requests: Sequence[bytes]) -> float:
    begin = time.perf_counter()
    with wire.Connection(it) as connection:
        for request in requests:
            answer = connection.ask(request)
            if b"<Error>" in answer:
                raise BenchmarkError(f"the service answered {answer[:600]!r}")
    wait_for(lambda: _is_settled(client), _DEADLINE_S, "the change is in force", _ASK_EVERY_S)
    return time.perf_counter() - begin


def _is_settled(client: Any) -> bool:
    if client.describe_user_groups(UserGroupId=_GUARD)["UserGroups"][0]["Status"] != "active":
        return False
    pages = client.get_paginator("describe_users").paginate(Filters=[{"Name": "user-group", "Values": [_GUARD]}])
    return all(user["Status"] == "active" for page in pages for user in page["Users"])


def _may_write(node: tuple[str, int], user: str) -> bool:
    with valkey.Valkey(host=node[0], port=node[1], username=user, password=_PASSWORD) as engine:
        try:
            engine.execute_command("SET", "key", "value")
        except NoPermissionError:
            return False
        except valkey.ReadOnlyError:
            return True
        return True


def _comes_in(node: tuple[str, int], user: str) -> bool:
    with valkey.Valkey(host=node[0], port=node[1], username=user, password=_PASSWORD) as engine:
        try:
            engine.ping()
        except AuthenticationError:
            return False
        return True
