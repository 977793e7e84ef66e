"""From an HTTP request to an answer: authenticate, decode, carry out, encode. No I/O of its own.

Order, as AWS's: authentication, then the action, then its parameters, then what the operation itself demands.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import structlog

from cachekeep.api import rehearsal
from cachekeep.api.context import Call, Services
from cachekeep.api.entry import Entry
from cachekeep.api.operations import OPERATIONS, STS_OPERATIONS, refusal
from cachekeep.codec import query, xml
from cachekeep.codec.aws_model import Operation, Service, known_regions, load_service
from cachekeep.codec.sigv4 import Caller, HttpRequest, verify
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.faults import Fault
from cachekeep.domain.ports import Conflict, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup

log = structlog.get_logger()

# The scope of credentials for what AWS does not have: status page, journal, rehearsals.
OWN_SERVICE = "cachekeep"


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
    """secret_of: the secret of an access key id, None for one that is not known. outlook: for rehearsals."""

    def __init__(
        self,
        services: Services,
        secret_of: Callable[[str], str | None],
        outlook: rehearsal.Outlook | None = None,
    ) -> None:
        self._services = services
        self._secret_of = secret_of
        self._outlook = outlook or rehearsal.Outlook()
        self._apis = {
            "elasticache": _Api(load_service("elasticache"), OPERATIONS),
            "sts": _Api(load_service("sts"), STS_OPERATIONS),
        }

    def authenticate(self, request: HttpRequest) -> Caller:
        """Raises the fault of a request that is not signed by a known key."""
        return verify(request, self._secret_of, self._services.clock.now())

    def answer(self, request: HttpRequest) -> Answer:
        """Never raises: what is wrong becomes a fault, and a bug of ours InternalFailure without its traceback."""
        request_id = new_request_id()
        api = self._apis["elasticache"]
        try:
            caller = self.authenticate(request)
            rehearsing = rehearsal.is_asked_for(request)
            api = self._api(caller, rehearsing=rehearsing)
            if rehearsing:
                return Answer(200, self._rehearse(api, caller, request), request_id, "application/json")
            return Answer(200, self._carry_out(api, caller, request, request_id), request_id)
        except Fault as fault:
            return _refuse(api, fault, request_id)
        except (WorldError, Conflict) as error:
            log.warning("request could not be served", request_id=request_id, reason=str(error))
            return _refuse(api, Fault("ServiceUnavailable", str(error)), request_id)
        except Exception:
            log.exception("request failed", request_id=request_id)
            broken = Fault("InternalFailure", f"Cachekeep failed to answer; its log tells more about {request_id}.")
            return _refuse(api, broken, request_id)

    def perform(self, region: str, access_key: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
        """An operation of ElastiCache for somebody who was authenticated in another way, such as by a session.

        fields: of the Query protocol, `Action` among them. The members of the answer. Raises Fault.
        """
        operation, entry, call = self._read(self._apis["elasticache"], region, access_key, urlencode(fields).encode())
        try:
            result = entry.handler(call)
        except Fault as fault:
            log.info("refused", operation=operation.name, region=region, code=fault.code, why=fault.message)
            raise
        except (WorldError, Conflict) as error:
            raise Fault("ServiceUnavailable", str(error)) from error
        log.debug("answered", operation=operation.name, region=region, access_key=access_key)
        return result

    def foresee(self, region: str, access_key: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """What `perform` would do: JSON values, as a rehearsal answers. Raises Fault."""
        operation, entry, call = self._read(self._apis["elasticache"], region, access_key, urlencode(fields).encode())
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
        cluster = store.get(CacheCluster, region, name)
        owner = name if cluster is None or cluster.replication_group_id is None else cluster.replication_group_id
        is_there = cluster is not None or store.get(ReplicationGroup, region, name) is not None
        if not is_there and not store.journal(region, owner, limit=1):
            raise Fault("ResourceNotFoundFault", f"No group or cluster {name[:60]!r} in {region}.", 404)
        notes = store.journal(region, owner, since=since, limit=limit)
        told = sorted([*_events_as_notes(store, region, owner, since), *notes], key=lambda note: note.at)
        return owner, told[-limit:]

    def _api(self, caller: Caller, *, rehearsing: bool) -> _Api:
        api = self._apis.get("elasticache" if rehearsing and caller.service == OWN_SERVICE else caller.service)
        if api is None:
            raise Fault("SignatureDoesNotMatch", "Credential should be scoped to correct service: 'elasticache'.")
        check_region(caller)
        return api

    def _carry_out(self, api: _Api, caller: Caller, request: HttpRequest, request_id: str) -> bytes:
        operation, entry, call = self._call(api, caller, request)
        try:
            result = entry.handler(call)
        except Fault as fault:
            log.info("refused", operation=operation.name, region=caller.region, code=fault.code, why=fault.message)
            raise
        log.debug("answered", operation=operation.name, region=caller.region, access_key=caller.access_key)
        return xml.encode_response(api.service, operation, result, request_id)

    def _rehearse(self, api: _Api, caller: Caller, request: HttpRequest) -> bytes:
        operation, entry, call = self._call(api, caller, request)
        made = rehearsal.rehearse(call, entry.handler, self._outlook)
        log.debug("rehearsed", operation=operation.name, region=caller.region, access_key=caller.access_key)
        return json.dumps(rehearsal.as_json(made, operation.name)).encode()

    def _call(self, api: _Api, caller: Caller, request: HttpRequest) -> tuple[Operation, Entry, Call]:
        """What the request asks for. Raises the fault of one that cannot be read, or that nobody carries out."""
        raw = request.body if request.method == "POST" and request.body else request.query.encode("ascii", "replace")
        return self._read(api, caller.region, caller.access_key, raw)

    def _read(self, api: _Api, region: str, access_key: str, raw: bytes) -> tuple[Operation, Entry, Call]:
        operation, params = query.decode_request(api.service, query.parse_form(raw))
        entry = api.entries.get(operation.name)
        if entry is None:
            raise refusal(operation)
        return operation, entry, Call(self._services, operation.name, region, params, access_key)


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
    found = [Note(at, region, owner, message) for at, message in own]
    for name in group.member_ids if group is not None else ():
        events = (event for event in told(SourceType.CACHE_CLUSTER, name) if (event.at, event.message) not in own)
        found += [Note(event.at, region, owner, f"{name}: {event.message}") for event in events]
    return found
