"""From a CreateReplicationGroup request to shards: how many, with which slots, and a zone for each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachekeep.api import choose, quota
from cachekeep.api.context import Call
from cachekeep.domain.faults import invalid_combination, invalid_value, not_available_yet
from cachekeep.domain.replication_group import ClusterMode
from cachekeep.domain.slots import SLOTS, Slots, divided, numbers_of, parse_slots, ranges_of, slots_text
from cachekeep.plan.placement import spread

MOST_MEMBERS = 6
"""Of one node group."""
MOST_REPLICAS = MOST_MEMBERS - 1

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class ShardPlace:
    """zones: of the members, the primary's first."""

    id: str
    slots: Slots
    zones: tuple[str, ...]


def choose_mode(call: Call) -> ClusterMode:
    """By ClusterMode, else by what only cluster mode has. Raises InvalidParameterCombination when they disagree."""
    asked = call.text("ClusterMode")
    name = call.text("CacheParameterGroupName")
    given = call.params.get("NodeGroupConfiguration") or []
    several = (call.number("NumNodeGroups") or 1) > 1 or len(given) > 1
    if asked is None:
        by_parameters = name is not None and choose.is_cluster_mode(call, call.parameter_group(name))
        return ClusterMode.ENABLED if several or by_parameters else ClusterMode.DISABLED
    mode = ClusterMode(asked)
    if several and mode is not ClusterMode.ENABLED:
        raise invalid_combination(f"Several node groups need ClusterMode enabled, and {mode.value} was asked for.")
    return mode


def choose_shards(call: Call, mode: ClusterMode, *, multi_az: bool) -> tuple[ShardPlace, ...]:
    """In order of their ids. Raises InvalidParameterValue for slots that overlap or do not cover all."""
    entries: Sequence[Entry] = call.params.get("NodeGroupConfiguration") or []
    count = _shard_count(call, len(entries))
    members = _member_count(call, mode, count)
    entries = entries or [{}] * count
    names = _names(entries)
    slots = _slots(entries, names, mode)
    several = multi_az or mode is ClusterMode.ENABLED
    places = [
        ShardPlace(name, slots[name], _zones(call, entry, name, members, several=several, alone=count == 1))
        for name, entry in zip(names, entries, strict=True)
    ]
    total = sum(len(place.zones) for place in places)
    quota.check_group_nodes(call, total, "NodeQuotaForClusterExceeded")
    return tuple(sorted(places, key=lambda place: place.id))


def _shard_count(call: Call, configured: int) -> int:
    count = call.number("NumNodeGroups")
    if count is not None and count < 1:
        raise invalid_value("NumNodeGroups must be at least 1.")
    if count is not None and configured and count != configured:
        raise invalid_combination(f"NumNodeGroups is {count}, and NodeGroupConfiguration has {configured} entries.")
    count = count or configured or 1
    quota.check_node_groups(call, count)
    return count


def _member_count(call: Call, mode: ClusterMode, shards: int) -> int:
    """Members of a shard, unless its entry says otherwise: NumCacheClusters, or ReplicasPerNodeGroup and a primary."""
    count, replicas = call.number("NumCacheClusters"), call.number("ReplicasPerNodeGroup")
    if count is not None and replicas is not None:
        raise invalid_combination("Use either NumCacheClusters or ReplicasPerNodeGroup, not both.")
    if replicas is not None:
        return _replicas("ReplicasPerNodeGroup", replicas) + 1
    if count is None:
        return 1 if mode is ClusterMode.DISABLED else 2
    if shards > 1:
        raise invalid_combination("With several node groups use ReplicasPerNodeGroup in place of NumCacheClusters.")
    if not 1 <= count <= MOST_MEMBERS:
        raise invalid_value(f"NumCacheClusters must be between 1 and {MOST_MEMBERS}.")
    return count


def _replicas(parameter: str, replicas: int) -> int:
    if not 0 <= replicas <= MOST_REPLICAS:
        raise invalid_value(f"{parameter} must be between 0 and {MOST_REPLICAS}.")
    return replicas


def _names(entries: Sequence[Entry]) -> list[str]:
    """The ids asked for, and the next free number for each of the others."""
    asked = [entry.get("NodeGroupId") for entry in entries]
    for name in asked:
        if name is not None:
            check_shard_id(name)
    doubled = [name for name in asked if name is not None and asked.count(name) > 1]
    if doubled:
        raise invalid_value(f"NodeGroupConfiguration names node group {doubled[0]} twice.")
    free = (name for number in range(1, 10_000) if (name := f"{number:04d}") not in asked)
    return [name or next(free) for name in asked]


def check_shard_id(name: str) -> None:
    """Raises InvalidParameterValue for anything but four digits."""
    if len(name) != 4 or not name.isascii() or not name.isdecimal():
        raise invalid_value(f"{name[:40]!r} is not a valid NodeGroupId: it must have four digits, such as 0001.")


def _slots(entries: Sequence[Entry], names: Sequence[str], mode: ClusterMode) -> dict[str, Slots]:
    given = {name: entry["Slots"] for name, entry in zip(names, entries, strict=True) if entry.get("Slots")}
    if mode is ClusterMode.DISABLED:
        if given:
            raise invalid_combination("Slots need cluster mode: set NumNodeGroups, or ClusterMode to enabled.")
        return dict.fromkeys(names, ())
    if not given:
        return dict(zip(sorted(names), divided(len(names)), strict=True))
    missing = [name for name in names if name not in given]
    if missing:
        raise invalid_value(f"Slots must be given for all node groups or for none, and {missing[0]} has none.")
    try:
        slots = {name: parse_slots(text) for name, text in given.items()}
    except ValueError as error:
        raise invalid_value(f"Slots of NodeGroupConfiguration: {error}.") from None
    _check_cover(slots)
    return slots


def _check_cover(slots: Mapping[str, Slots]) -> None:
    owners: dict[int, str] = {}
    for name, ranges in slots.items():
        twice = numbers_of(ranges) & owners.keys()
        if twice:
            other = owners[min(twice)]
            text = slots_text(ranges_of(n for n in twice if owners[n] == other))
            raise invalid_value(f"The slots {text} are given to both node groups {other} and {name}.")
        owners |= dict.fromkeys(numbers_of(ranges), name)
    missing = set(range(SLOTS)) - owners.keys()
    if missing:
        raise invalid_value(f"The slots {slots_text(ranges_of(missing))[:200]} are given to no node group.")


def _zones(call: Call, entry: Entry, name: str, members: int, *, several: bool, alone: bool) -> tuple[str, ...]:
    """One zone for each member of a shard: those asked for, else in turn."""
    if entry.get("PrimaryOutpostArn") or entry.get("ReplicaOutpostArns"):
        raise not_available_yet("An outpost in NodeGroupConfiguration")
    count = entry.get("ReplicaCount")
    if count is not None:
        members = _replicas("ReplicaCount", count) + 1
    replicas = tuple(entry.get("ReplicaAvailabilityZones") or ())
    if replicas and len(replicas) != members - 1:
        raise invalid_combination(
            f"ReplicaAvailabilityZones of node group {name} names {len(replicas)} zones for {members - 1} replicas."
        )
    common = call.texts("PreferredCacheClusterAZs")
    if common and not alone:
        raise invalid_combination("With several node groups use NodeGroupConfiguration for zones.")
    if common and len(common) != members:
        raise invalid_combination(f"PreferredCacheClusterAZs names {len(common)} zones for {members} cache clusters.")
    primary = entry.get("PrimaryAvailabilityZone")
    asked = choose.check_zones(call, *((primary,) if primary else ()), *replicas, *common)
    if common and (primary or replicas):
        raise invalid_combination("Use either PreferredCacheClusterAZs or the zones of NodeGroupConfiguration.")
    if replicas and not primary:
        asked = (spread(call.region, 1, (), several=False)[0], *asked)
    return tuple(spread(call.region, members, asked, several=several))
