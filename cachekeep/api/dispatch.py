"""From an HTTP request to an answer: authenticate, decode, carry out, encode. No I/O of its own.

Order, as AWS's: authentication, then the action, then its parameters, then what the operation itself demands.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import structlog

from cachekeep.api import rehearsal
from cachekeep.api.action_resources import resources_of
from cachekeep.api.context import Call, Services
from cachekeep.api.entry import Entry
from cachekeep.api.gate import AllKeys, Gate, NoTrail, Visit, tags_given
from cachekeep.api.operations import OPERATIONS, STS_OPERATIONS, refusal
from cachekeep.api.ops.tags import tags_at
from cachekeep.api.throttle import Throttle
from cachekeep.codec import query, xml
from cachekeep.codec.aws_model import Operation, Service, known_regions, load_service
from cachekeep.codec.sigv4 import Caller, HttpRequest, verify
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.faults import Fault
from cachekeep.domain.identity import OK
from cachekeep.domain.ports import Conflict, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, backing_id, is_behind_serverless, serverless_name, shown_text

log = structlog.get_logger()

# The scope of credentials for what AWS does not have: status page, journal, rehearsals.
OWN_SERVICE = "cachekeep"
# As AWS has it: "No permissions are required to perform this operation" (STS API reference).
ALWAYS_ALLOWED = frozenset({"GetCallerIdentity"})


@dataclass(frozen=True)
class Answer:
    """headers: what it carries beside its length, its type and the id of the request."""

    status: int
    body: bytes
    request_id: str
    content_type: str = "text/xml"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Api:
    service: Service
    entries: Mapping[str, Entry]


class Dispatcher:
    """secret_of: the secret of an access key id, None for one that is not known. outlook: for rehearsals. gate: who may
    do what; without one, every key that is known may do everything. throttle: how many requests are too many; None
    for no limit."""

    def __init__(
        self,
        services: Services,
        secret_of: Callable[[str], str | None],
        outlook: rehearsal.Outlook | None = None,
        gate: Gate | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._services = services
        self._secret_of = secret_of
        self._outlook = outlook or rehearsal.Outlook()
        self.gate = gate or Gate(
            AllKeys(secret_of), NoTrail(), services.account_id, services.clock.now, lambda arn: tags_at(services, arn)
        )
        self._throttle = throttle
        self._apis = {
            "elasticache": _Api(load_service("elasticache"), OPERATIONS),
            "sts": _Api(load_service("sts"), STS_OPERATIONS),
        }

    def authenticate(self, request: HttpRequest, visit: Visit | None = None) -> Caller:
        """visit: whose it is, it is told. Raises the fault of a request that is not signed by a known key, which the
        trail has then."""
        visit = visit or Visit(new_request_id(), request.source)
        try:
            caller = verify(request, self._secret_of, self._services.clock.now())
        except Fault as fault:
            self.gate.end(visit, fault.code)
            raise
        visit.key, visit.region = caller.access_key, caller.region
        return caller

    def answer(self, request: HttpRequest) -> Answer:
        """Never raises: what is wrong becomes a fault, and a bug of ours InternalFailure without its traceback."""
        request_id = new_request_id()
        api = self._apis["elasticache"]
        visit = Visit(request_id, request.source)
        try:
            caller = self.authenticate(request, visit)
            rehearsing = rehearsal.is_asked_for(request)
            api = self._api(caller, rehearsing=rehearsing)
            if self._throttle is not None:
                self._throttle.check(caller.access_key, caller.region)
            if rehearsing:
                return Answer(200, self._rehearse(api, visit, request), request_id, "application/json")
            return Answer(200, self._carry_out(api, visit, request, request_id), request_id)
        except Fault as fault:
            return _refuse(api, fault, request_id)
        except (WorldError, Conflict) as error:
            log.warning("request could not be served", request_id=request_id, reason=str(error))
            return _refuse(api, Fault("ServiceUnavailable", str(error)), request_id)
        except Exception:
            log.exception("request failed", request_id=request_id)
            broken = Fault("InternalFailure", f"Cachekeep failed to answer; its log tells more about {request_id}.")
            return _refuse(api, broken, request_id)

    def perform(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Mapping[str, Any]:
        """An operation of ElastiCache for somebody who was authenticated in another way, such as by a session.

        fields: of the Query protocol, `Action` among them. The members of the answer. Raises Fault.
        """
        visit = Visit(new_request_id(), source, access_key, region)
        with self._let_in(self._apis["elasticache"], visit, urlencode(fields).encode()) as (operation, entry, call):
            try:
                result = entry.handler(call)
            except Fault as fault:
                log.info("refused", operation=operation.name, region=region, code=fault.code, why=fault.message)
                raise
            except (WorldError, Conflict) as error:
                raise Fault("ServiceUnavailable", str(error)) from error
        log.debug("answered", operation=operation.name, region=region, access_key=access_key)
        return result

    def foresee(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> dict[str, Any]:
        """What `perform` would do: JSON values, as a rehearsal answers. Raises Fault."""
        visit = Visit(new_request_id(), source, access_key, region)
        raw = urlencode(fields).encode()
        with self._let_in(self._apis["elasticache"], visit, raw, rehearsed=True) as (operation, entry, call):
            try:
                return rehearsal.as_json(rehearsal.rehearse(call, entry.handler, self._outlook), operation.name)
            except (WorldError, Conflict) as error:
                raise Fault("ServiceUnavailable", str(error)) from error

    def journal(self, region: str, name: str, *, since: float, limit: int) -> tuple[str, list[Note]]:
        """Whose journal it is, and the newest notes, events among them; that of a member's group for the name of a
        member.

        Raises ResourceNotFoundFault for what neither is there nor has left a note.
        """
        store = self._services.store
        if store.get(ServerlessCache, region, name) is not None and store.get(ReplicationGroup, region, name) is None:
            name = backing_id(name)
        cluster = store.get(CacheCluster, region, name)
        owner = name if cluster is None or cluster.replication_group_id is None else cluster.replication_group_id
        is_there = cluster is not None or store.get(ReplicationGroup, region, name) is not None
        if not is_there and not store.journal(region, owner, limit=1):
            raise Fault("ResourceNotFoundFault", f"No group or cluster {name[:60]!r} in {region}.", 404)
        notes = store.journal(region, owner, since=since, limit=limit)
        told = sorted([*_events_as_notes(store, region, owner, since), *notes], key=lambda note: note.at)
        return serverless_name(owner), [replace(note, sentence=shown_text(note.sentence)) for note in told[-limit:]]

    def _api(self, caller: Caller, *, rehearsing: bool) -> _Api:
        api = self._apis.get("elasticache" if rehearsing and caller.service == OWN_SERVICE else caller.service)
        if api is None:
            raise Fault("SignatureDoesNotMatch", "Credential should be scoped to correct service: 'elasticache'.")
        check_region(caller)
        return api

    def _carry_out(self, api: _Api, visit: Visit, request: HttpRequest, request_id: str) -> bytes:
        with self._let_in(api, visit, _raw(request)) as (operation, entry, call):
            try:
                result = entry.handler(call)
            except Fault as fault:
                log.info("refused", operation=operation.name, region=visit.region, code=fault.code, why=fault.message)
                raise
        log.debug("answered", operation=operation.name, region=visit.region, access_key=visit.key)
        return xml.encode_response(api.service, operation, result, request_id)

    def _rehearse(self, api: _Api, visit: Visit, request: HttpRequest) -> bytes:
        with self._let_in(api, visit, _raw(request), rehearsed=True) as (operation, entry, call):
            made = rehearsal.rehearse(call, entry.handler, self._outlook)
        log.debug("rehearsed", operation=operation.name, region=visit.region, access_key=visit.key)
        return json.dumps(rehearsal.as_json(made, operation.name)).encode()

    @contextmanager
    def _let_in(
        self, api: _Api, visit: Visit, raw: bytes, *, rehearsed: bool = False
    ) -> Iterator[tuple[Operation, Entry, Call]]:
        """The one way to a handler: read, asked about at the gate, and written down however it ends.

        Raises the fault of a request that cannot be read, that nobody carries out, or that its key may not make.
        """
        outcome = "InternalFailure"
        try:
            yield self._read(api, visit, raw, rehearsed=rehearsed)
            outcome = OK
        except Fault as fault:
            outcome = fault.code
            raise
        except (WorldError, Conflict):
            outcome = "ServiceUnavailable"
            raise
        finally:
            self.gate.end(visit, outcome)

    def _read(self, api: _Api, visit: Visit, raw: bytes, *, rehearsed: bool) -> tuple[Operation, Entry, Call]:
        fields = query.parse_form(raw)
        service, account = api.service.name, self._services.account_id
        # Before its parameters are read: what cannot be read has a name in the trail, too.
        if fields.get("Action", "") in api.service.operations:
            visit.asks(service, fields["Action"], rehearsed=rehearsed)
        operation, params = query.decode_request(api.service, fields)
        visit.resources = resources_of(operation.name, params, visit.region, account)
        visit.parameters = params
        if operation.name in ALWAYS_ALLOWED:
            identity = self.gate.identity(visit.key)
        else:
            identity = self.gate.check(visit, visit.region, tags_given(params))
        entry = api.entries.get(operation.name)
        if entry is None:
            raise refusal(operation)
        return operation, entry, Call(self._services, operation.name, visit.region, params, visit.key, identity)


def _raw(request: HttpRequest) -> bytes:
    """The form of a request: its body, or its query."""
    return request.body if request.method == "POST" and request.body else request.query.encode("ascii", "replace")


def _refuse(api: _Api, fault: Fault, request_id: str) -> Answer:
    return Answer(fault.status, xml.encode_fault(api.service.namespace, fault, request_id), request_id)


def check_region(caller: Caller) -> None:
    """Raises SignatureDoesNotMatch: in a mistyped region all would look as if it were gone."""
    if caller.region not in known_regions():
        text = f"Credential should be scoped to a valid region, not '{caller.region}'."
        raise Fault("SignatureDoesNotMatch", text)


def new_request_id() -> str:
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _events_as_notes(store: Store, region: str, owner: str, since: float) -> list[Note]:
    """What users were told of a group and its members: requests stand there, and what came of them.

    Of what is gone its name does not tell what it was. A failover is an event of the group and of a member: told once.
    """
    group = store.get(ReplicationGroup, region, owner)
    kinds = (SourceType.REPLICATION_GROUP, *(() if group is not None else (SourceType.CACHE_CLUSTER,)))

    def told(kind: SourceType, name: str) -> list[Event]:
        return store.events(region, since=since, until=math.inf, source_type=kind.value, source_id=name)

    own = dict.fromkeys((event.at, event.message) for kind in kinds for event in told(kind, owner))
    if is_behind_serverless(owner):
        of_cache = told(SourceType.SERVERLESS_CACHE, serverless_name(owner))
        own |= dict.fromkeys((event.at, event.message) for event in of_cache)
    found = [Note(at, region, owner, message) for at, message in own]
    for name in group.member_ids if group is not None else ():
        events = (event for event in told(SourceType.CACHE_CLUSTER, name) if (event.at, event.message) not in own)
        found += [Note(event.at, region, owner, f"{name}: {event.message}") for event in events]
    return found
