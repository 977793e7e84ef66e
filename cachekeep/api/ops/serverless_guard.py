"""UserGroupId of serverless caches: the group behind the cache is guarded by it, as any group is."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Call
from cachekeep.api.guards import guard_changed, guard_new
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import invalid_combination
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache


def asked_group(call: Call, engine: Engine) -> str | None:
    """The user group that is asked for. Raises InvalidParameterCombination."""
    name = call.text("UserGroupId")
    if name is not None and not engine.speaks_resp:
        raise invalid_combination("Memcached has no users.")
    if name is not None and call.flag("RemoveUserGroup"):
        raise invalid_combination("Use either UserGroupId or RemoveUserGroup, not both.")
    return None if name is None else name.lower()


def guarded(call: Call, group: ReplicationGroup) -> ReplicationGroup:
    """A new group with the user group of the request. Raises what guard_new does."""
    name = call.text("UserGroupId")
    asked = {"UserGroupIds": [] if name is None else [name]}
    return guard_new(replace(call, params=asked), group)


def change_guard(call: Call, work: Transaction, cache: ServerlessCache) -> None:
    """Give the group behind the cache another user group, or none. Raises what guard_changed does."""
    name, remove = call.text("UserGroupId"), bool(call.flag("RemoveUserGroup"))
    group = work.get(ReplicationGroup, call.region, cache.backing_id)
    if group is None or (name is None and not remove):
        return
    asked: dict[str, object] = {"RemoveUserGroups": True}
    if name is not None and name.lower() not in group.user_group_ids:
        asked = {"UserGroupIdsToAdd": [name], "UserGroupIdsToRemove": list(group.user_group_ids)}
    elif name is not None:
        return
    work.replace(group, guard_changed(replace(call, params=asked), group))
