"""What a request means for users and user groups: which caches are told, and who is cut off. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import serverless_name
from cachekeep.domain.users import User, UserGroup
from cachekeep.plan.previews import words
from cachekeep.plan.previews.scene import Part, Scene


def told(scene: Scene) -> list[Part]:
    """A part for each user and user group that comes, changes or goes."""
    old, new = scene.before, scene.after
    parts = [
        _part(scene, "User", name, _groups_of(old.user_groups, name) | _groups_of(new.user_groups, name), kinds)
        for name, kinds in _changed(old.users, new.users)
    ]
    return parts + [
        _part(scene, "User group", name, {name}, kinds) for name, kinds in _changed(old.user_groups, new.user_groups)
    ]


def _changed(
    old: Mapping[str, User] | Mapping[str, UserGroup], new: Mapping[str, User] | Mapping[str, UserGroup]
) -> list[tuple[str, str]]:
    """Names, and what becomes of them."""
    return [
        (name, "is made" if name not in old else "goes" if name not in new else "changes")
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _groups_of(user_groups: Mapping[str, UserGroup], user_id: str) -> set[str]:
    return {group.id for group in user_groups.values() if user_id in group.user_ids}


def _part(scene: Scene, kind: str, name: str, user_groups: Collection[str], becomes: str) -> Part:
    caches: list[ReplicationGroup | CacheCluster] = [*scene.after.groups.values(), *scene.after.clusters.values()]
    guarded = [serverless_name(one.id) for one in caches if set(one.user_group_ids) & set(user_groups)]
    if not guarded:
        return Part((f"{kind} {name} {becomes}; no cache is guarded by it.",))
    cut = () if becomes == "is made" else ("Connections of users that lose a right are cut.",)
    return Part((f"{kind} {name} {becomes}: every node of {words.listed(guarded)} is told.",), warnings=cut)
