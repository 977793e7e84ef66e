"""Finding users, and what may be put together: user and user group, user group and engine."""

from __future__ import annotations

from collections.abc import Sequence

from cachekeep.api.context import Call
from cachekeep.api.token_users import check_takes_tokens
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ports import Store, Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.users import DEFAULT_USER, Authentication, User, UserGroup, builtin_default
from cachekeep.plan.access_string import check_access_string

_IAM_SINCE = EngineVersion((7, 0))
_VALKEY_SINCE = EngineVersion((7, 2))


def find_user(call: Call, user_id: str) -> User:
    """Raises UserNotFound."""
    if user_id.lower() == DEFAULT_USER:
        return builtin_default(call.region)
    user = call.services.store.get(User, call.region, user_id.lower())
    if user is None:
        raise Fault("UserNotFound", f"User {user_id[:60]} not found.")
    return user


def check_fits_group(user: User, engine: str) -> None:
    """Raises InvalidParameterValue for a user that a user group of that engine cannot have."""
    if engine == Engine.REDIS.value and user.engine != engine:
        raise invalid_value(f"User {user.id} has the engine {user.engine}; a user group of redis takes none but redis.")
    if engine == Engine.VALKEY.value and user.authentication is Authentication.NO_PASSWORD:
        raise invalid_value(
            f"User {user.id} needs no password; a user group of valkey takes users with passwords or IAM only."
        )


def minimum_version(call: Call, user: User) -> EngineVersion:
    """The oldest engine that can do what the user is to be allowed."""
    least = check_access_string(user.access_string, call.services.catalog.commands)
    if user.authentication is Authentication.IAM:
        least = max(least, _IAM_SINCE)
    return max(least, _VALKEY_SINCE) if user.engine == Engine.VALKEY.value else least


def check_versions(call: Call, work: Transaction, group: UserGroup, users: Sequence[User]) -> None:
    """Raises InvalidParameterCombination when a cache that the user group guards runs an older engine."""
    for owner in guarded_by(work, call.region, group.id):
        check_takes_tokens(call, work, owner, users)
        oldest = min(versions_of(work, owner))
        for user in users:
            least = minimum_version(call, user)
            if oldest < least:
                raise invalid_combination(
                    f"User {user.id} needs engine version {least}, and {owner.id} with the user group {group.id} runs "
                    "an older one."
                )


def guarded_by(work: Transaction | Store, region: str, user_group: str) -> list[ReplicationGroup | CacheCluster]:
    """What a user group guards."""
    owners = (*work.all(ReplicationGroup, region), *work.all(CacheCluster, region))
    return [o for o in owners if isinstance(o, (ReplicationGroup, CacheCluster)) and user_group in o.user_group_ids]


def versions_of(work: Transaction, owner: ReplicationGroup | CacheCluster) -> list[EngineVersion]:
    """Of the engines that it runs, or is about to run."""
    found = [owner.version]
    if isinstance(owner, ReplicationGroup):
        members = (work.get(CacheCluster, owner.region, name) for name in owner.member_ids)
        found += [member.runs[1] for member in members if member is not None]
    return found
