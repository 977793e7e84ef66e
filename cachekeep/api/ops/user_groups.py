"""User groups: create, describe, modify, delete. A group guards caches; its users are those who may log in there.

Rules and wording: botocore elasticache 2015-02-02 (shapes); ElastiCache guide, "Role-Based Access Control". A group of
redis must have a user whose name is `default`; one of valkey need not, and has none then who comes in without a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachekeep.api import choose, present
from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops.users import checked_engine, checked_id, event
from cachekeep.api.paging import page
from cachekeep.api.user_lookup import check_fits_group, check_versions, find_user, guarded_by, minimum_version
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.events import SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import serverless_name
from cachekeep.domain.users import DEFAULT_USER, User, UserGroup, UserStatus

MOST_GROUPS = 200
MOST_USERS = 100


def create_user_group(call: Call) -> present.Shape:
    group_id = checked_id("UserGroupId", call.params["UserGroupId"])
    store = call.services.store
    if store.get(UserGroup, call.region, group_id) is not None:
        raise Fault("UserGroupAlreadyExists", f"User group {group_id} already exists.")
    engine = checked_engine(call.params["Engine"])
    ids = _ids(call, "UserIds")
    _check_users(call, engine.value, ids)
    tags = choose.choose_tags(call)
    if len(store.all(UserGroup, call.region)) >= MOST_GROUPS:
        raise Fault("UserGroupQuotaExceeded", f"A region can have at most {MOST_GROUPS} user groups.")
    now = call.services.clock.now()
    group = UserGroup(call.region, group_id, engine.value, ids, UserStatus.CREATING, created_at=now, tags=tags)
    with store.transaction() as work:
        work.insert(group)
    return shape_of(call, group)


def describe_user_groups(call: Call) -> present.Shape:
    wanted = call.text("UserGroupId")
    groups = call.services.store.all(UserGroup, call.region) if wanted is None else [find_user_group(call, wanted)]
    shown, marker = page(call, groups, lambda group: group.id)
    return {"UserGroups": [shape_of(call, group) for group in shown], "Marker": marker}


def modify_user_group(call: Call) -> present.Shape:
    group = find_user_group(call, call.params["UserGroupId"])
    add, remove = _ids(call, "UserIdsToAdd"), _ids(call, "UserIdsToRemove")
    engine = checked_engine(call.text("Engine") or group.engine)
    if not add and not remove and engine.value == group.engine:
        raise invalid_combination("UserIdsToAdd, UserIdsToRemove or another Engine must be given.")
    if set(add) & set(remove):
        raise invalid_combination("A user cannot be both added and removed.")
    _require_active(group)
    missing = [one for one in remove if one not in group.user_ids]
    if missing:
        raise Fault("UserNotFound", f"User {missing[0][:60]} is not in the user group {group.id}.")
    present_already = [one for one in add if one in group.user_ids]
    if present_already:
        raise invalid_value(f"User {present_already[0]} is in the user group {group.id} already.")
    ids = (*(one for one in group.user_ids if one not in remove), *add)
    users = _check_users(call, engine.value, ids)
    with call.services.store.transaction() as work:
        for owner in guarded_by(work, call.region, group.id):
            if owner.engine is Engine.REDIS and engine is not Engine.REDIS:
                raise invalid_combination(f"{owner.id} runs redis, and takes user groups of redis only.")
        check_versions(call, work, group, [user for user in users if user.id in add])
        new = replace(group, user_ids=ids, before=group.user_ids, engine=engine.value, status=UserStatus.MODIFYING)
        work.replace(group, new)
    return shape_of(call, new)


def delete_user_group(call: Call) -> present.Shape:
    group = find_user_group(call, call.params["UserGroupId"])
    _require_active(group)
    store = call.services.store
    using = guarded_by(store, call.region, group.id)
    if using:
        raise Fault(
            "InvalidUserGroupState",
            f"User group {group.id} is associated with {serverless_name(using[0].id)}; disassociate it first.",
        )
    gone = replace(group, status=UserStatus.DELETING)
    with store.transaction() as work:
        work.replace(group, gone)
        work.add_event(event(call, SourceType.USER_GROUP, group.id, f"User group {group.id} is being deleted"))
    return shape_of(call, gone)


def find_user_group(call: Call, name: str) -> UserGroup:
    """Raises UserGroupNotFound."""
    group = call.services.store.get(UserGroup, call.region, name.lower())
    if group is None:
        raise Fault("UserGroupNotFound", f"UserGroup {name[:60]} not found.")
    return group


def _require_active(group: UserGroup) -> None:
    if group.status is not UserStatus.ACTIVE:
        raise Fault("InvalidUserGroupState", f"User group {group.id} is not active: it is {group.status.value}.")


def _ids(call: Call, parameter: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.lower() for one in call.texts(parameter)))


def _check_users(call: Call, engine: str, ids: Sequence[str]) -> list[User]:
    """Raises UserNotFound, DuplicateUserName, DefaultUserRequired or InvalidParameterValue."""
    users = [find_user(call, one) for one in ids]
    if len(users) > MOST_USERS:
        raise invalid_value(f"A user group can have at most {MOST_USERS} users, and this would have {len(users)}.")
    names: dict[str, str] = {}
    for user in users:
        if user.status is UserStatus.DELETING:
            raise Fault("UserNotFound", f"User {user.id} is being deleted.")
        if user.name in names:
            raise Fault(
                "DuplicateUserName",
                f"The users {names[user.name]} and {user.id} both have the name {user.name}; names in a group differ.",
            )
        names[user.name] = user.id
    if engine == Engine.REDIS.value and DEFAULT_USER not in names:
        raise Fault("DefaultUserRequired", "A user group of redis needs a user with the name default.")
    for user in users:
        check_fits_group(user, engine)
    return users


def shape_of(call: Call, group: UserGroup) -> present.Shape:
    """UserGroup of the model: its users until a change has reached every engine, and what is on its way."""
    store = call.services.store
    shown = group.user_ids if group.before is None else group.before
    owners = guarded_by(store, call.region, group.id)
    users = [find_user(call, one) for one in group.user_ids if one == DEFAULT_USER or store.get(User, call.region, one)]
    least = max((minimum_version(call, user) for user in users), default=EngineVersion((6, 0)))
    shape: present.Shape = {
        "UserGroupId": group.id,
        "Status": group.status.value,
        "Engine": group.engine,
        "UserIds": list(shown),
        "MinimumEngineVersion": least.short,
        "ReplicationGroups": [
            owner.id for owner in owners if isinstance(owner, ReplicationGroup) and owner.serverless is None
        ],
        "ServerlessCaches": [owner.serverless for owner in owners if owner.serverless is not None],
        "ARN": call.arn("usergroup", group.id),
    }
    if group.before is not None:
        shape["PendingChanges"] = {
            "UserIdsToAdd": [one for one in group.user_ids if one not in group.before],
            "UserIdsToRemove": [one for one in group.before if one not in group.user_ids],
        }
    return shape


_PROOF = "tests/scenarios/test_users.py::"
OPERATIONS: Mapping[str, Entry] = {
    "CreateUserGroup": Entry(
        create_user_group, Truth.REAL, _PROOF + "test_users_of_a_group_are_enforced_on_every_node"
    ),
    "DescribeUserGroups": Entry(
        describe_user_groups, Truth.REAL, _PROOF + "test_users_of_a_group_are_enforced_on_every_node"
    ),
    "ModifyUserGroup": Entry(
        modify_user_group,
        Truth.REAL,
        _PROOF + "test_a_user_group_of_many_caches_changes_under_load",
        "Live, on all nodes of all caches that the group guards.",
    ),
    "DeleteUserGroup": Entry(delete_user_group, Truth.REAL, _PROOF + "test_a_user_group_in_use_is_kept"),
}
