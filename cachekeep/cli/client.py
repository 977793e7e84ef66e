"""Asks the running service: signed requests, with nothing but a socket in between.

No boto3 client: a user's profile, proxies and endpoint settings must not decide whether `cachekeep status` works.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from cachekeep.cli.refusal import SERVICE_DOWN, Refused, RefusedByService
from cachekeep.credentials import AccessKey
from cachekeep.domain.world import WorldError
from cachekeep.host.authority import trusting

OWN_SERVICE = "cachekeep"
API_VERSION = "2015-02-02"
TIMEOUT_S = 10.0
REHEARSE = {"x-cachekeep-rehearse": "true"}
# What a service answers, in no JSON, to a page that it does not have yet, or that took no POST then.
_NO_SUCH_PAGE = frozenset({404, 405})
_FORM = "application/x-www-form-urlencoded; charset=utf-8"


def answers(url: str, timeout_s: float = 2.0, *, ca_file: Path | None = None) -> bool:
    """True when a Cachekeep answers there, whose ever it is. ca_file: whom to trust where the URL is https."""
    try:
        status, body = _exchange("GET", f"{url}/healthz", {}, b"", timeout_s, ca_file)
        return status == 200 and json.loads(body).get("service") == "cachekeep"
    except (OSError, HTTPException, ValueError, AttributeError, WorldError):
        return False


@dataclass(frozen=True)
class Client:
    """One service, asked with one key in one region. ca_file: whom to trust where the URL is https."""

    url: str
    key: AccessKey
    region: str
    ca_file: Path | None = None

    def status(self) -> dict[str, Any]:
        """What the status page says (see cachekeep.status). Raises Refused."""
        return self._page("/_cachekeep/status", "tell its status")

    def journal(self, name: str, *, since: float, limit: int) -> dict[str, Any]:
        """`resource`, whose journal it is, and `notes` with `at` and `sentence`, oldest first. Raises Refused."""
        asked = urlencode({"name": name, "region": self.region, "since": repr(since), "limit": str(limit)})
        return self._page(f"/_cachekeep/journal?{asked}", f"tell the journal of {name}")

    def page(self, name: str, what: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A page of our own (see cachekeep.app.surface). what: what it is asked for, for the message when it refuses.
        Raises Refused."""
        return self._page(f"/_cachekeep/{name}" + (f"?{urlencode(query)}" if query else ""), what)

    def change(self, name: str, body: Mapping[str, Any], what: str) -> dict[str, Any]:
        """What a page of our own answers to a POST. Raises Refused with the service's own words, RefusedByService where
        the wish was wrong."""
        headers = {"Content-Type": "application/json"}
        status, answer = self._signed("POST", f"/_cachekeep/{name}", json.dumps(body).encode(), OWN_SERVICE, headers)
        page = _json(answer)
        if status == 200 and page is not None:
            return page
        if page is None and status in _NO_SUCH_PAGE:
            raise _older(what)
        told = f"{page.get('code')}: {page.get('message')}" if page is not None else f"HTTP {status}"
        kind = RefusedByService if page is not None and 400 <= status < 500 else Refused
        raise kind(f"the service refused to {what}: {told}", 1)

    def topics(self) -> dict[str, Any]:
        """The region's topics (see cachekeep.api.topics). Raises Refused."""
        return self.page("topics", "list the topics")

    def change_topics(self, wish: Mapping[str, str]) -> dict[str, Any]:
        """What api.topics answers to `action` and its fields. Raises Refused with the service's own words."""
        return self.change("topics", wish, f"{wish['action']} topic {wish['name'][:100]}")

    def create(self, **parameters: str) -> None:
        """CreateReplicationGroup. Raises Refused with the service's own words."""
        self.request("CreateReplicationGroup", parameters)

    def request(self, operation: str, fields: Mapping[str, str]) -> None:
        """Have an operation carried out. fields: of the Query protocol. Raises Refused with the service's own words."""
        status, body = self._signed("POST", "/", _form(operation, fields), "elasticache")
        if status != 200:
            raise Refused(f"the service refused {operation}: {_fault(body)}", 1)

    def rehearse(self, operation: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """What the operation would do (see cachekeep.plan.preview). Nothing is done. Raises Refused.

        Signed for our own service: one that knows no rehearsals refuses that, instead of carrying it out.
        """
        status, body = self._signed("POST", "/", _form(operation, fields), OWN_SERVICE, REHEARSE)
        page = _json(body)
        if status == 200 and page is not None:
            return page
        fault = _fault(body)
        if "SignatureDoesNotMatch: Credential should be scoped" in fault:
            raise _older("plan")
        raise Refused(f"the service would refuse {operation}: {fault}", 1)

    def _page(self, path: str, what: str) -> dict[str, Any]:
        status, body = self._signed("GET", path, b"", OWN_SERVICE)
        page = _json(body)
        if page is None and status in _NO_SUCH_PAGE:
            raise _older(what)
        if page is None:
            raise Refused(f"{self.url} does not answer as Cachekeep does (HTTP {status}); is another program there?", 1)
        if status != 200:
            raise Refused(f"{self.url} refused to {what}: {page.get('code')}: {page.get('message')}", 1)
        return page

    def _signed(
        self, method: str, path: str, body: bytes, service: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        # Imported late: it takes longer than the rest of the command.
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        given = {**({"Content-Type": _FORM} if body else {}), **(headers or {})}
        request = AWSRequest(method, self.url + path, given, body)
        SigV4Auth(Credentials(self.key.id, self.key.secret), service, self.region).add_auth(request)
        try:
            return _exchange(method, self.url + path, dict(request.headers.items()), body, TIMEOUT_S, self.ca_file)
        except (OSError, HTTPException) as error:
            # For scripts, one that hangs is as one that is down.
            raise Refused(f"{self.url} does not answer: {error}", SERVICE_DOWN) from error


def _older(what: str) -> Refused:
    return Refused(f"the service that runs is older and cannot {what}: `cachekeep down`, then `cachekeep up`", 1)


def _exchange(
    method: str, url: str, headers: dict[str, str], body: bytes, timeout_s: float, ca_file: Path | None = None
) -> tuple[int, bytes]:
    connection = _connection(url, timeout_s, ca_file)
    parts = urlsplit(url)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _connection(url: str, timeout_s: float, ca_file: Path | None) -> HTTPConnection:
    """Raises WorldError when the service's authority cannot be read."""
    parts = urlsplit(url)
    if parts.scheme == "https" and ca_file is not None:
        return HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=timeout_s, context=trusting(ca_file))
    return HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)


def _form(operation: str, fields: Mapping[str, str]) -> bytes:
    return urlencode({"Action": operation, "Version": API_VERSION, **fields}).encode()


def _json(body: bytes) -> dict[str, Any] | None:
    """None for anything but a JSON object."""
    try:
        page = json.loads(body)
    except ValueError:
        return None
    return page if isinstance(page, dict) else None


def _fault(body: bytes) -> str:
    """Code and message of an XML fault; the beginning of the body when it is none."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - from our own service, over loopback
    except ET.ParseError:
        return body[:200].decode("utf-8", "replace")
    texts = {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}
    return f"{texts.get('Code', 'unknown')}: {texts.get('Message', '')}"
