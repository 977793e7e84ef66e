"""Who may log in to the nodes of a group, and with which rules: from stored users, user groups and tokens. Pure.

Called by control (to tell the nodes) and by the API (to refuse what an engine could not do).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cachekeep.domain.access import Rules
from cachekeep.domain.acl_commands import Commands
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.users import DEFAULT_USER, Authentication, User, UserGroup, UserStatus, builtin_default
from cachekeep.plan.access_string import rules_of

# Stands among tokens for: without one, too.
NO_TOKEN = ""
_NO_WRITES = "-@write"
_CLOSED: Rules = ((DEFAULT_USER, "reset", "off"),)


@dataclass(frozen=True)
class Entrant:
    """What of a user concerns an engine."""

    name: str
    access_string: str
    authentication: Authentication
    passwords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entrants:
    """Who may log in beside the service. guarded: a user group or a token decides; else `default` is open.

    users: in the order of their names. tokens: digests, the newest last; NO_TOKEN among them lets in without.
    """

    guarded: bool = False
    users: tuple[Entrant, ...] = ()
    tokens: tuple[str, ...] = ()
    scope: str | None = None
    """In which nodes log in to one another, where that is not the group itself; "" for nobody, so they do not."""
    reads_only: bool = False
    """Clients may not write: of a secondary in cluster mode, whose engines follow nobody who would refuse it."""


NOBODY_ASKED = Entrants()


def scope_of(owner: ReplicationGroup | CacheCluster) -> str | None:
    """Members of a global datastore log in to one another. A group that follows a server of somebody else's must not
    log in there: nobody knows the service's user, and the password is nobody's business."""
    if not isinstance(owner, ReplicationGroup):
        return None
    if owner.migration is not None and owner.migration.follows:
        return ""
    return f"global/{owner.global_id}" if owner.global_id else None


def entrants_of(
    owner: ReplicationGroup | CacheCluster,
    find_group: Callable[[str], UserGroup | None],
    find_user: Callable[[str], User | None],
) -> Entrants:
    """find_*: by id in the owner's region. A user group that is missing lets nobody in."""
    if not owner.user_group_ids:
        return Entrants(bool(owner.auth_tokens), (), owner.auth_tokens)
    users: dict[str, Entrant] = {}
    for group_id in owner.user_group_ids:
        group = find_group(group_id)
        for user_id in group.user_ids if group is not None else ():
            user = builtin_default(owner.region) if user_id == DEFAULT_USER else find_user(user_id)
            if user is not None and user.status is not UserStatus.DELETING:
                users[user.name] = Entrant(user.name, user.access_string, user.authentication, user.passwords)
    return Entrants(True, tuple(users[name] for name in sorted(users)))


def node_users(entrants: Entrants, commands: Commands, engine: Engine, version: EngineVersion) -> Rules:
    """The users of a node of that version, `default` always among them; () where `default` is open to all."""
    if entrants.reads_only:
        return tuple(_reading(words) for words in _writing_users(entrants, commands, engine, version))
    return _writing_users(entrants, commands, engine, version) if entrants.guarded else ()


def _reading(words: tuple[str, ...]) -> tuple[str, ...]:
    """Last of all, also in each selector: whatever was given before."""
    parts = (f"{word[:-1].rstrip()} {_NO_WRITES})" if word.startswith("(") else word for word in words)
    return (*parts, _NO_WRITES)


def _writing_users(entrants: Entrants, commands: Commands, engine: Engine, version: EngineVersion) -> Rules:
    if not entrants.guarded:
        return (_of_tokens((NO_TOKEN,), commands, engine, version),)
    if not entrants.users:
        return (_of_tokens(entrants.tokens, commands, engine, version),) if entrants.tokens else _CLOSED
    told = tuple((user.name, "reset", *_of_user(user, commands, engine, version)) for user in entrants.users)
    return told if any(name == DEFAULT_USER for name, *_ in told) else (*_CLOSED, *told)


def _of_user(user: Entrant, commands: Commands, engine: Engine, version: EngineVersion) -> Iterable[str]:
    switch, *rules = rules_of(user.access_string, commands, engine, version)
    match user.authentication:
        case Authentication.NO_PASSWORD:
            entry = ["nopass"]
        case Authentication.PASSWORD:
            entry = [f"#{digest}" for digest in user.passwords]
        case Authentication.IAM:
            # No password: only an auth module can let it in.
            entry = []
    return (switch, *entry, *rules)


def _of_tokens(tokens: Sequence[str], commands: Commands, engine: Engine, version: EngineVersion) -> tuple[str, ...]:
    entry = ["nopass"] if NO_TOKEN in tokens else [f"#{digest}" for digest in tokens]
    _, *rules = rules_of("on ~* &* +@all", commands, engine, version)
    return (DEFAULT_USER, "reset", "on", *entry, *rules)


def link_of(region: str, owner_id: str, entrants: Entrants) -> str:
    """The scope in which nodes log in to one another. Another one once clients are asked who they are: whoever read
    the former password in the open cannot use it any more."""
    if entrants.scope == "":
        return ""
    # Of a datastore too: the password of a member that stands open must not open one that is guarded.
    return (entrants.scope or f"{region}/{owner_id}") + ("/guarded" if entrants.guarded else "")
