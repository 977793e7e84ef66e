"""Rehearsals: what a request would do, before anything is done.

A request with the header `x-cachekeep-rehearse: true` runs through the very handler that would carry it out, with the
same checks and the same faults, in a transaction that is never ended. What it would have stored is then compared with
what is stored, and the answer says the steps, the pause of writes, the memory, and what can be undone (plan.preview).

The header must be among the signed ones: where it is stripped on the way, the signature is wrong, and nothing is done
by mistake. Credentials scoped to `cachekeep` do for rehearsals too: a service that knows no rehearsals refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from cachekeep.api.context import Call
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.domain.alarms import HistoryItem, HistoryKind
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, Note
from cachekeep.domain.faults import Fault
from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import R, Resource, Store, Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import shown_text
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.domain.users import User, UserGroup
from cachekeep.plan.decision import Limits
from cachekeep.plan.preview import Preview, preview
from cachekeep.plan.previews.scene import Resources
from cachekeep.plan.specs import Abilities

HEADER = "x-cachekeep-rehearse"
_SIGNED_HEADERS = re.compile(r"SignedHeaders=([^,\s]+)")
_READS = ("Describe", "List", "Get")


def is_asked_for(request: HttpRequest) -> bool:
    """Whether the request, whose signature is verified, is a rehearsal.

    Raises SignatureDoesNotMatch when the header is there and not signed, InvalidParameterValue for any value but
    `true`: what was meant as a rehearsal is never carried out.
    """
    values = [value.strip().lower() for name, value in request.headers if name == HEADER]
    if not values:
        return False
    if HEADER not in _signed_headers(request):
        raise Fault("SignatureDoesNotMatch", f"'{HEADER}' must be a 'SignedHeader' in the AWS Authorization.")
    if values != ["true"]:
        raise Fault("InvalidParameterValue", f"The header {HEADER} can only be true; nothing was done.")
    return True


def _signed_headers(request: HttpRequest) -> list[str]:
    """Their names, lower case, of either form of signature."""
    for name, value in request.headers:
        if name == "authorization":
            found = _SIGNED_HEADERS.search(value)
            return found[1].split(";") if found else []
    for pair in request.query.split("&"):
        name, _, value = pair.partition("=")
        if name == "X-Amz-SignedHeaders":
            return unquote(value).split(";")
    return []


@dataclass(frozen=True)
class Outlook:
    """What decides about a preview beside the stored resources."""

    abilities: Abilities = field(default_factory=Abilities)
    limits: Limits = field(default_factory=Limits)


def rehearse(call: Call, handler: Callable[[Call], object], outlook: Outlook) -> Preview:
    """What the call would do. Nothing is stored, nobody is woken. Raises the fault that the call would end with."""
    if call.operation.startswith(_READS):
        raise Fault("InvalidParameterValue", f"{call.operation} only reads: there is nothing to plan.")
    services = call.services
    before = _resources(call, services.store)
    with rehearsal_store(services.store) as store:
        handler(replace(call, services=replace(services, store=store)))
        after = _resources(call, store)
    return preview(
        before,
        after,
        services.seen(),
        services.catalog,
        outlook.abilities,
        limits=outlook.limits,
        now=services.clock.now(),
    )


def as_json(made: Preview, operation: str) -> dict[str, Any]:
    """JSON values: see plan.preview.Preview; sizes in bytes, times in ms or in seconds since 1970."""
    texts = {name: tuple(map(shown_text, getattr(made, name))) for name in ("resources", "steps", "undo", "warnings")}
    return {"operation": operation, **asdict(made), **texts}


def _resources(call: Call, store: Store) -> Resources:
    custom = {group.name: group for group in store.all(ParameterGroup, call.region)}
    return Resources(
        groups={group.id: group for group in store.all(ReplicationGroup, call.region)},
        clusters={cluster.id: cluster for cluster in store.all(CacheCluster, call.region)},
        parameters={**call.services.catalog.default_groups, **custom},
        recorded=tuple(store.all(SubnetGroup, call.region)),
        datastores={found.id: found for found in store.all(GlobalGroup)},
        snapshots={snapshot.name: snapshot for snapshot in store.all(Snapshot, call.region)},
        users={user.id: user for user in store.all(User, call.region)},
        user_groups={group.id: group for group in store.all(UserGroup, call.region)},
    )


class _Discarded(Exception):
    """Ends the transaction of a rehearsal: everything written in it is undone."""


@contextmanager
def rehearsal_store(store: Store) -> Iterator[RehearsalStore]:
    """A store over one transaction of the real one, which is undone at the end whatever happens."""
    try:
        with store.transaction() as work:
            yield RehearsalStore(store, work)
            raise _Discarded
    except _Discarded:
        return


class RehearsalStore:
    """Implements domain.ports.Store: reads see what the rehearsal wrote, nobody else does."""

    def __init__(self, store: Store, work: Transaction) -> None:
        self._store = store
        self._work = work

    def get(self, kind: type[R], region: str, name: str) -> R | None:
        return self._work.get(kind, region, name)

    def all(self, kind: type[R], region: str | None = None) -> list[R]:
        return self._work.all(kind, region)

    def events(
        self, region: str, *, since: float, until: float, source_type: str | None, source_id: str | None
    ) -> list[Event]:
        return self._store.events(region, since=since, until=until, source_type=source_type, source_id=source_id)

    def journal(self, region: str, resource_id: str, *, since: float = 0.0, limit: int = 1000) -> list[Note]:
        return self._store.journal(region, resource_id, since=since, limit=limit)

    def alarm_history(
        self, region: str, alarm: str | None = None, *, since: float, until: float, kind: HistoryKind | None = None
    ) -> list[HistoryItem]:
        return self._store.alarm_history(region, alarm, since=since, until=until, kind=kind)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Part of the one that is undone: a handler that raises in it ends the rehearsal."""
        yield self._work

    def subscribe(self, changed: Callable[[Sequence[Resource]], None]) -> None:
        """Nobody is ever told: nothing is ever stored."""
