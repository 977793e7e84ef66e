"""Asks the running service: signed requests, with nothing but a socket in between.

No boto3 client: a user's profile, proxies and endpoint settings must not decide whether `cachekeep status` works.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from cachekeep.cli.refusal import Refused
from cachekeep.credentials import AccessKey

STATUS_SERVICE = "cachekeep"
API_VERSION = "2015-02-02"
TIMEOUT_S = 10.0
_FORM = "application/x-www-form-urlencoded; charset=utf-8"


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """True when a Cachekeep answers there, whose ever it is."""
    try:
        status, body = _exchange("GET", f"{url}/healthz", {}, b"", timeout_s)
        return status == 200 and json.loads(body).get("service") == "cachekeep"
    except (OSError, HTTPException, ValueError, AttributeError):
        return False


@dataclass(frozen=True)
class Client:
    """One service, asked with one key in one region."""

    url: str
    key: AccessKey
    region: str

    def status(self) -> dict[str, Any]:
        """What the status page says (see cachekeep.status). Raises Refused."""
        status, body = self._signed("GET", "/_cachekeep/status", b"", STATUS_SERVICE)
        try:
            page = json.loads(body)
        except ValueError:
            page = None
        if not isinstance(page, dict):
            raise Refused(f"{self.url} does not answer as Cachekeep does (HTTP {status}); is another program there?", 1)
        if status != 200:
            raise Refused(f"{self.url} refused to tell its status: {page.get('code')}: {page.get('message')}", 1)
        return page

    def create(self, **parameters: str) -> None:
        """CreateReplicationGroup. Raises Refused with the service's own words."""
        fields = {"Action": "CreateReplicationGroup", "Version": API_VERSION, **parameters}
        status, body = self._signed("POST", "/", urlencode(fields).encode(), "elasticache")
        if status != 200:
            raise Refused(f"the service refused to create {parameters['ReplicationGroupId']}: {_fault(body)}", 1)

    def _signed(self, method: str, path: str, body: bytes, service: str) -> tuple[int, bytes]:
        # Imported late: it takes longer than the rest of the command.
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method, self.url + path, {"Content-Type": _FORM} if body else {}, body)
        SigV4Auth(Credentials(self.key.id, self.key.secret), service, self.region).add_auth(request)
        try:
            return _exchange(method, self.url + path, dict(request.headers.items()), body, TIMEOUT_S)
        except (OSError, HTTPException) as error:
            raise Refused(f"{self.url} does not answer: {error}", 1) from error


def _exchange(method: str, url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request(method, parts.path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _fault(body: bytes) -> str:
    """Code and message of an XML fault; the beginning of the body when it is none."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - from our own service, over loopback
    except ET.ParseError:
        return body[:200].decode("utf-8", "replace")
    texts = {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}
    return f"{texts.get('Code', 'unknown')}: {texts.get('Message', '')}"
