"""What a chaos run works on: the service, its groups with their writers, deaths so far, and the timeline."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.scenarios.calm import COMMON
from tests.scenarios.conftest import Service

from .oracle import REPLICATION_WINDOW_S, Death
from .writers import Load


class Refused(Exception):
    """A request was refused with a fault that AWS declares for it: fine while a group is busy."""


class Unreachable(Exception):
    """The service is down at the moment."""


class Broken(Exception):
    """The service answered what it never may."""


@dataclass
class Group:
    """clustered: cluster mode is enabled. endpoint: where its writers connect. versions: between which it is moved.

    parameter_groups: its own, by the number of the version: `8`, `9`. wants_failover: automatic failover was turned
    off, and is to be turned on again.
    """

    id: str
    clustered: bool
    versions: tuple[str, str]
    parameter_groups: dict[str, str] = field(default_factory=dict)
    wants_failover: bool = False
    endpoint: tuple[str, int] = ("", 0)
    load: Load | None = None
    deaths: list[Death] = field(default_factory=list)


@dataclass(frozen=True)
class Happened:
    """An action that was begun. group: "" for the service. outcome: `asked`, `done`, `refused: ...`, `no target`."""

    at: float
    action: str
    group: str
    outcome: str

    @property
    def begun(self) -> bool:
        return self.outcome.startswith(("asked", "done"))


@dataclass
class World:
    """reckless: engines may be killed also where nobody else has their data."""

    service: Service
    chance: random.Random
    reckless: bool = False
    groups: list[Group] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    restart_at: float | None = None
    _client: Any = None

    @property
    def up(self) -> bool:
        process = self.service.process
        return process is not None and process.poll() is None

    def note(self, action: str, group: str, outcome: str) -> None:
        self.happened.append(Happened(time.monotonic(), action, group, outcome))

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        """One request. Raises Refused, Unreachable, or Broken for an answer that AWS does not declare."""
        if not self.up:
            raise Unreachable("the service is down")
        self._client = self._client or self.service.client()
        try:
            return dict(getattr(self._client, operation)(**params))
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            if code in self._declared(operation) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise Refused(f"{code}: {message}") from None
            raise Broken(f"{operation} {params}: {code}: {message}") from None
        except BotoCoreError as error:
            if self.up:
                raise Broken(f"{operation} {params}: {error}") from None
            raise Unreachable(str(error)) from None

    def _declared(self, operation: str) -> set[str]:
        meta = self._client.meta
        model = meta.service_model.operation_model(meta.method_to_api_mapping[operation])
        return COMMON | {shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}

    def described(self, group: Group) -> dict[str, Any]:
        answer = self.call("describe_replication_groups", ReplicationGroupId=group.id)
        return dict(answer["ReplicationGroups"][0])

    def died(self, group: Group, what: str, slots: frozenset[int] | None, *, in_sync: bool) -> None:
        """Note an unplanned death, just before it is caused."""
        now = time.monotonic()
        group.deaths.append(Death(now, now - REPLICATION_WINDOW_S if in_sync else 0.0, what, slots))

    def timeline(self) -> list[str]:
        return [
            f"{it.at - self.began:8.3f}  {it.group or 'service':<10} {it.action:<22} {it.outcome}"
            for it in self.happened
        ]
