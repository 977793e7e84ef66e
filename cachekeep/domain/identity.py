"""Who may ask: access keys and the users that they stand for, and the trail that their requests leave. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.policy import Policy
from cachekeep.domain.replication_group import ReplicationGroup

ROOT = "root"
# The outcome of a request that was carried out.
OK = "ok"


@dataclass(frozen=True)
class Identity:
    """Whom an access key stands for. policy: None for one that may do everything."""

    name: str
    policy: Policy | None = None

    @property
    def is_root(self) -> bool:
        return self.name == ROOT

    def arn(self, account: str) -> str:
        return f"arn:aws:iam::{account}:{ROOT if self.is_root else f'user/{self.name}'}"

    def user_id(self, account: str) -> str:
        """In the form of IAM's unique ids; the same for a name wherever it is asked."""
        if self.is_root:
            return account
        digest = hashlib.sha256(f"{account}/{self.name}".encode()).digest()
        return "AIDA" + base64.b32encode(digest).decode()[:17]


ROOT_IDENTITY = Identity(ROOT)


class Keys(Protocol):
    """The access keys as they are now; a change of their files is seen at the next question."""

    def get(self, key_id: str, /) -> str | None:
        """The secret of a key that is good now, None for every other."""
        ...

    def identity(self, key_id: str) -> Identity | None:
        """Whom the key stands for; None for one that is not good now."""
        ...


@dataclass(frozen=True)
class TrailEntry:
    """One request that changed something, or that was refused. at: seconds since 1970. key, user: "" where the
    signature was not good. outcome: `ok`, or the code of the fault. parameters: without secrets."""

    at: float
    request_id: str
    key: str
    user: str
    source: str
    region: str
    action: str
    resources: tuple[str, ...] = ()
    outcome: str = OK
    parameters: Mapping[str, object] = field(default_factory=dict)


class Trail(Protocol):
    def write(self, entry: TrailEntry) -> None:
        """Append it. Never raises: what cannot be written is counted, and told of later."""
        ...


# Valkey 7.2 and all of Redis know the interface of auth modules by other names, or not at all.
TOKENS_SINCE = EngineVersion((8, 0))


def takes_tokens(engine: Engine, version: EngineVersion) -> bool:
    """Whether that engine can load the module that asks about IAM tokens."""
    return engine is Engine.VALKEY and version >= TOKENS_SINCE


class Verdict(Enum):
    """On a token that an engine was sent. PASS: not a user of tokens, the engine's own check decides."""

    LET_IN = b"Y"
    REFUSE = b"N"
    PASS = b"P"


# Of a group and the name that a client gives: the id of the user of that name who logs in by token, None for no such.
IamUsers = Callable[[ReplicationGroup, str], str | None]


class TokenDoor(Protocol):
    """The way by which IAM tokens get into engines."""

    def prepare(self) -> None:
        """Make engines of this machine able to take tokens, once. Raises WorldError with the reason where none can."""
        ...


class NoTokenDoor:
    def prepare(self) -> None:
        """Everything is there already: for what runs no engine, such as tests of requests."""
