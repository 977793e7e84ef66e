"""Users that log in by IAM token: where they can be had, and where they are refused with the reason.

An engine that could not check tokens would keep such a user out for ever, so it is refused when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.faults import invalid_combination
from cachekeep.domain.identity import TOKENS_SINCE, IamUsers, takes_tokens
from cachekeep.domain.ports import Store, Transaction, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.users import Authentication, User, UserGroup, UserStatus


def prepare_tokens(call: Call, authentication: Authentication) -> None:
    """Before a user is one of IAM: raises InvalidParameterCombination where no engine here could let it in."""
    if authentication is not Authentication.IAM:
        return
    try:
        call.services.token_door.prepare()
    except WorldError as error:
        raise invalid_combination(f"IAM authentication is not available here: {error}.") from error


def check_takes_tokens(
    call: Call, work: Transaction | Store, owner: ReplicationGroup | CacheCluster, users: Iterable[User]
) -> None:
    """Raises InvalidParameterCombination when a user of IAM is among them, and a node of the owner takes no tokens."""
    name = next((user.id for user in users if user.authentication is Authentication.IAM), None)
    if name is None:
        return
    members = _members(work, owner)
    for engine, version in [member.runs for member in members] or [(owner.engine, owner.version)]:
        if not takes_tokens(engine, version):
            raise invalid_combination(_too_old(name, owner, engine, version))
    seen = call.services.seen()
    for member in members:
        for node in member.nodes:
            look = seen.get(member.key(node))
            if look is not None and look.facts is not None and not look.facts.takes_tokens:
                raise invalid_combination(
                    f"User {name} has IAM authentication, and the node {member.id} was started before the first such "
                    "user was made: reboot it (RebootCacheCluster), then try again."
                )


def token_users(store: Store) -> IamUsers:
    """By what is stored now. Of a user with IAM authentication, id and name are the same."""

    def find(group: ReplicationGroup, name: str) -> str | None:
        for group_id in group.user_group_ids:
            user_group = store.get(UserGroup, group.region, group_id)
            if user_group is None or name not in user_group.user_ids:
                continue
            user = store.get(User, group.region, name)
            good = user is not None and user.status is not UserStatus.DELETING and user.name == name
            if user is not None and good and user.authentication is Authentication.IAM:
                return user.id
        return None

    return find


def _members(work: Transaction | Store, owner: ReplicationGroup | CacheCluster) -> list[CacheCluster]:
    if isinstance(owner, CacheCluster):
        return [owner]
    found = (work.get(CacheCluster, owner.region, name) for name in owner.member_ids)
    return [member for member in found if member is not None]


def _too_old(name: str, owner: ReplicationGroup | CacheCluster, engine: Engine, version: EngineVersion) -> str:
    return (
        f"User {name} has IAM authentication, which needs Valkey {TOKENS_SINCE} or newer; {owner.id} runs "
        f"{engine.label} {version}, whose engine has no way to ask about tokens."
    )
