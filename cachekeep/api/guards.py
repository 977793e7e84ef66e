"""What guards a cache: a user group, or an auth token. Parameters of creates and modifies, checked as AWS does.

Sources: botocore elasticache 2015-02-02 (AuthToken, AuthTokenUpdateStrategy, UserGroupIds*); ElastiCache guide,
"Authenticating with the AUTH command" and "Role-Based Access Control".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from cachekeep.api.context import Call
from cachekeep.api.token_users import check_takes_tokens
from cachekeep.api.user_lookup import find_user, minimum_version
from cachekeep.domain.access import password_digest
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.users import UserGroup, UserStatus
from cachekeep.plan.users import NO_TOKEN

Owner = TypeVar("Owner", ReplicationGroup, CacheCluster)
MOST_USER_GROUPS = 1
_TOKEN = re.compile(r"[A-Za-z0-9!&#$^<>-]{16,128}\Z")


def guard_new(call: Call, owner: Owner) -> Owner:
    """The owner with the token or user group that a create asks for.

    Raises InvalidParameterValue, InvalidParameterCombination, UserGroupNotFound and InvalidUserGroupState.
    """
    token, ids = call.text("AuthToken"), _ids(call, "UserGroupIds")
    if token is None and not ids:
        return owner
    if token is not None and ids:
        raise invalid_combination("AuthToken and UserGroupIds exclude each other.")
    _check_encrypted(call, owner)
    if token is not None:
        return replace(owner, auth_tokens=(_digest(token),), auth_token_at=call.services.clock.now())
    _check_user_groups(call, owner, ids)
    return replace(owner, user_group_ids=ids)


def guard_changed(call: Call, owner: Owner) -> Owner:
    """The owner with the changes that a modify asks for, which reach the engines at once."""
    add, remove = _ids(call, "UserGroupIdsToAdd"), _ids(call, "UserGroupIdsToRemove")
    drop_all = bool(call.flag("RemoveUserGroups"))
    token, strategy = call.text("AuthToken"), call.text("AuthTokenUpdateStrategy")
    if not add and not remove and not drop_all and token is None and strategy is None:
        return owner
    if drop_all and (add or remove):
        raise invalid_combination("RemoveUserGroups excludes UserGroupIdsToAdd and UserGroupIdsToRemove.")
    if add or token is not None:
        _check_encrypted(call, owner)
    groups = _groups_after(owner, add, remove, drop_all=drop_all)
    if add:
        _check_user_groups(call, owner, groups)
    tokens = _tokens_after(call, owner, token, strategy, add)
    if groups and tokens:
        raise invalid_combination(
            "AUTH and user groups exclude each other: use AuthTokenUpdateStrategy DELETE with UserGroupIdsToAdd."
        )
    at = call.services.clock.now() if tokens != owner.auth_tokens else owner.auth_token_at
    return replace(owner, user_group_ids=groups, auth_tokens=tokens, auth_token_at=at)


def _groups_after(
    owner: ReplicationGroup | CacheCluster, add: Sequence[str], remove: Sequence[str], *, drop_all: bool
) -> tuple[str, ...]:
    missing = [name for name in remove if name not in owner.user_group_ids]
    if missing:
        raise invalid_value(f"The user group {missing[0][:60]} is not associated with {owner.id}.")
    kept = () if drop_all else tuple(name for name in owner.user_group_ids if name not in remove)
    return tuple(dict.fromkeys((*kept, *add)))


def _tokens_after(
    call: Call, owner: ReplicationGroup | CacheCluster, token: str | None, strategy: str | None, add: Sequence[str]
) -> tuple[str, ...]:
    """ROTATE keeps the last one beside the new one, SET leaves the last rotated one alone, DELETE goes to users."""
    now = owner.auth_tokens
    if strategy == "DELETE":
        if token is not None:
            raise invalid_combination("AuthTokenUpdateStrategy DELETE takes no AuthToken.")
        if not now or not add:
            raise invalid_combination(
                "AuthTokenUpdateStrategy DELETE moves a cache with a token to users: it needs UserGroupIdsToAdd."
            )
        return ()
    if token is None:
        if strategy is not None:
            raise invalid_combination(f"AuthTokenUpdateStrategy {strategy} needs AuthToken.")
        return now
    digest = _digest(token)
    if strategy == "SET":
        if not now or digest != now[-1]:
            raise invalid_combination(
                "AuthTokenUpdateStrategy SET takes the token that was rotated in last: ROTATE to it first."
            )
        return (digest,)
    if strategy not in (None, "ROTATE"):
        raise invalid_value("AuthTokenUpdateStrategy must be SET, ROTATE or DELETE.")
    if now and now[-1] == digest:
        return now
    # Where there was none, clients without a token stay welcome until it is SET.
    return ((now[-1] if now else NO_TOKEN), digest)


def _digest(token: str) -> str:
    """Raises InvalidParameterValue, which never repeats it."""
    if not _TOKEN.match(token):
        raise invalid_value(
            "AuthToken must have 16 to 128 characters: letters, digits, and of the special ones !, &, #, $, ^, <, > "
            "and - only."
        )
    return password_digest(token)


def _ids(call: Call, parameter: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.lower() for name in call.texts(parameter)))


def _check_encrypted(call: Call, owner: ReplicationGroup | CacheCluster) -> None:
    """Now, and when what waits or is asked for has come."""
    asked = call.flag("TransitEncryptionEnabled")
    waiting = owner.pending.transit if isinstance(owner, ReplicationGroup) else None
    stays = owner.transit.encrypted and (waiting is None or waiting.encrypted)
    if not (asked or (asked is None and stays)) and not call.services.auth_without_tls:
        raise invalid_combination(
            "AUTH tokens and user groups need TransitEncryptionEnabled to be true; the setting auth_without_tls lets "
            "them guard a cache that listens on this machine only."
        )


def _check_user_groups(call: Call, owner: ReplicationGroup | CacheCluster, ids: Sequence[str]) -> None:
    if len(ids) > MOST_USER_GROUPS:
        raise invalid_combination(f"A replication group can have {MOST_USER_GROUPS} user group, and not {len(ids)}.")
    for name in ids:
        group = call.services.store.get(UserGroup, call.region, name)
        if group is None:
            raise Fault("UserGroupNotFound", f"UserGroup {name[:60]} not found.")
        if group.status is not UserStatus.ACTIVE and name not in owner.user_group_ids:
            raise Fault("InvalidUserGroupState", f"User group {name} is not active: it is {group.status.value}.")
        if owner.engine is Engine.REDIS and group.engine != Engine.REDIS.value:
            raise invalid_combination(f"User group {name} is of valkey, and {owner.id} runs redis.")
        check_takes_tokens(call, call.services.store, owner, [find_user(call, one) for one in group.user_ids])
        # Every Valkey knows all that an access string can say.
        for user_id in group.user_ids if owner.engine is Engine.REDIS else ():
            least = minimum_version(call, find_user(call, user_id))
            if owner.version < least:
                raise invalid_combination(f"User {user_id} needs engine version {least}, and {owner.id} runs older.")


def token_status(owner: ReplicationGroup | CacheCluster) -> str | None:
    """What is on its way with the token: SETTING or ROTATING."""
    if not owner.auth_tokens or owner.status is not Status.MODIFYING or owner.transit_moves:
        return None
    return "ROTATING" if len(owner.auth_tokens) > 1 else "SETTING"
