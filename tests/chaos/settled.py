"""What must hold once nothing is asked for and nothing killed any more. Each function returns what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import valkey

from .observed import Seen, ask, engines_of, node_client
from .oracle import Found
from .world import Broken, Group, Refused, Unreachable, World
from .writers import all_of

WITHIN_S = 90.0
SYNC_WITHIN_S = 20.0


def unsettled(world: World) -> list[str]:
    """Why a group or a member is not `available`, after WITHIN_S; nothing once all are."""
    deadline = time.monotonic() + WITHIN_S
    reasons = _unavailable(world)
    while reasons and time.monotonic() < deadline:
        time.sleep(0.2)
        reasons = _unavailable(world)
    return [f"not settled after {WITHIN_S:g} s: {reason}" for reason in reasons]


def _unavailable(world: World) -> list[str]:
    reasons = []
    try:
        groups = world.call("describe_replication_groups")["ReplicationGroups"]
        reasons += [f"{it['ReplicationGroupId']} is {it['Status']}" for it in groups if it["Status"] != "available"]
        for it in world.call("describe_cache_clusters", ShowCacheNodeInfo=True)["CacheClusters"]:
            nodes = [node["CacheNodeStatus"] for node in it["CacheNodes"]]
            if it["CacheClusterStatus"] != "available" or set(nodes) != {"available"}:
                reasons.append(f"{it['CacheClusterId']} is {it['CacheClusterStatus']}, its nodes {nodes}")
    except (Refused, Unreachable, Broken) as error:
        reasons.append(str(error))
    return reasons


def found_in(world: World, group: Group) -> tuple[Found, list[str]]:
    """What a group's primaries hold together, and what is wrong with its roles, its replicas and its processes."""
    members = world.described(group)["MemberClusters"]
    told = {
        it["CacheClusterId"]: it["CacheNodes"][0]["Endpoint"]
        for it in world.call("describe_cache_clusters", ShowCacheNodeInfo=True)["CacheClusters"]
        if it["CacheClusterId"] in members
    }
    engines = engines_of(world.service, group.id)
    wrong = [f"{it.member}/{it.instance} runs and is no member" for it in engines if it.member not in members]
    counted = Counter(it.member for it in engines)
    wrong += [f"{member} has {counted[member]} processes" for member in members if not 1 <= counted[member] <= 2]
    wrong += [f"{it.member} is still stopped" for it in engines if it.stopped]
    found: dict[str, list[int]] = {}
    for shard in world.described(group)["NodeGroups"]:
        held, more = _shard(group, shard, told, engines)
        wrong += more
        wrong += [f"{key} is held by two shards" for key in held.keys() & found.keys()]
        found.update(held)
    return found, wrong


def _shard(
    group: Group, shard: dict[str, Any], told: dict[str, dict[str, Any]], engines: list[Seen]
) -> tuple[dict[str, list[int]], list[str]]:
    """The data of a shard's primary; whether the others hold the same, and the roles are as they are told.

    Every process of the shard counts, spares too; a member is what answers at its endpoint.
    """
    mine = [it for it in engines if it.shard == shard["NodeGroupId"]]
    said = {it: ask(it) for it in mine}
    wrong = [f"{it.member}/{it.instance} does not answer" for it in mine if said[it] is None]
    for member in shard["NodeGroupMembers"]:
        name = member["CacheClusterId"]
        seen = _behind([it for it in mine if it.member == name], told[name])
        answer = said[seen] if seen else None
        if answer is None:
            wrong.append(f"{name} does not answer at its endpoint {told[name]}")
            continue
        role = "primary" if answer.primary else "replica"
        if member.get("CurrentRole", role) != role:
            wrong.append(f"{name} is described as {member['CurrentRole']}, and at its endpoint is a {role}")
    primaries = [it for it, answer in said.items() if answer and answer.primary]
    if len(primaries) != 1:
        return {}, [*wrong, f"{group.id} {shard['NodeGroupId']} has the primaries {[it.member for it in primaries]}"]
    for it in (it for it in mine if it != primaries[0]):
        if difference := _difference(primaries[0], it):
            wrong += [f"{it.member}/{it.instance} is not as its primary {primaries[0].member}: {difference}"]
    return _data(primaries[0]), wrong


def _behind(engines: list[Seen], endpoint: dict[str, Any]) -> Seen | None:
    """The process that answers at an endpoint."""
    try:
        with node_client(endpoint["Address"], endpoint["Port"], 5.0) as client:
            pid = client.info("server")["process_id"]
    except (valkey.ValkeyError, OSError):
        return None
    return next((it for it in engines if it.pid == pid), None)


def _data(seen: Seen) -> dict[str, list[int]]:
    with node_client(seen.host, seen.port, 20.0) as client:
        if client.info("cluster").get("cluster_enabled"):
            client.execute_command("READONLY")
        return all_of(client)


def _difference(primary: Seen, replica: Seen) -> str:
    """Nobody writes: within a moment both must hold the same. "" then."""
    deadline = time.monotonic() + SYNC_WITHIN_S
    while True:
        try:
            mine, its = _data(primary), _data(replica)
        except (valkey.ValkeyError, OSError) as error:
            told = f"cannot be read: {error}"
        else:
            different = [key for key in mine.keys() | its.keys() if mine.get(key) != its.get(key)]
            told = f"{len(different)} of {len(mine)} keys differ, as {different[:2]}" if different else ""
        if not told or time.monotonic() > deadline:
            return told
        time.sleep(0.2)


def left_over(world: World) -> list[str]:
    """Delete everything: nothing may run then."""
    names = [it["ReplicationGroupId"] for it in world.call("describe_replication_groups")["ReplicationGroups"]]
    for name in names:
        world.call("delete_replication_group", ReplicationGroupId=name)
    deadline = time.monotonic() + WITHIN_S
    while world.call("describe_replication_groups")["ReplicationGroups"]:
        if time.monotonic() > deadline:
            return ["deleted groups are not gone"]
        time.sleep(0.1)
    left = world.service.engines()
    return [f"process {pid} is left in {folder}" for pid, folder in left.items()]
