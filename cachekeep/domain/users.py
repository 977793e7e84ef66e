"""Users and user groups: who may log in to the caches of a group, and what they may do. Pure.

A user's passwords are kept as SHA-256 in hex, which is also what engines are told. The built-in user `default` is in
no store: `builtin_default` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_USER = "default"
DEFAULT_ACCESS = "on ~* +@all"


class UserStatus(StrEnum):
    """The words of DescribeUsers and DescribeUserGroups; only groups are ever `creating`."""

    CREATING = "creating"
    ACTIVE = "active"
    MODIFYING = "modifying"
    DELETING = "deleting"


class Authentication(StrEnum):
    """How a user proves who it is, in the words that DescribeUsers shows."""

    PASSWORD = "password"  # noqa: S105 - a word of the API
    NO_PASSWORD = "no-password"  # noqa: S105
    IAM = "iam"


@dataclass(frozen=True)
class User:
    """id: names it in the API; name: what clients log in as. engine: `valkey` or `redis`.

    passwords: SHA-256 in hex, at most two. access_string: as given, checked.
    """

    region: str
    id: str
    name: str
    engine: str
    access_string: str
    authentication: Authentication
    passwords: tuple[str, ...] = ()
    status: UserStatus = UserStatus.ACTIVE
    created_at: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UserGroup:
    """user_ids: its users as wanted, in order. before: its users until a change has reached every engine, None when
    nothing is on its way."""

    region: str
    id: str
    engine: str
    user_ids: tuple[str, ...]
    status: UserStatus = UserStatus.ACTIVE
    before: tuple[str, ...] | None = None
    created_at: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)


def builtin_default(region: str) -> User:
    """The user that every account has and nobody can change. Source: ElastiCache guide, "RBAC"."""
    return User(region, DEFAULT_USER, DEFAULT_USER, "redis", DEFAULT_ACCESS, Authentication.NO_PASSWORD)
