"""Requests that botocore signed, as a server sees them, and ways to alter them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth, _host_from_url
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cachekeep.codec.sigv4 import HttpRequest, verify
from cachekeep.domain.faults import Fault

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
MOMENT = datetime(2026, 11, 22, 21, 0, 0, tzinfo=UTC)
NOW = MOMENT.timestamp()
BODY = b"Action=DescribeReplicationGroups&Version=2015-02-02"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
URL = "http://127.0.0.1:8080/"
MISMATCH = "The request signature we calculated does not match the signature you provided."


def sign(auth: SigV4Auth, request: AWSRequest) -> HttpRequest:
    """Sign at MOMENT; botocore would take the clock's time."""
    with patch.object(botocore.auth, "get_current_datetime", lambda **_: MOMENT.replace(tzinfo=None)):
        auth.add_auth(request)
    return wire(request)


def wire(request: AWSRequest) -> HttpRequest:
    """The request as a server sees it."""
    parts = urlsplit(request.url)
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    if not any(name == "host" for name, _ in headers):
        headers.append(("host", _host_from_url(request.url)))
    return HttpRequest(request.method, parts.path, parts.query, headers, request.data or b"")


def signed(
    url: str = URL,
    body: bytes = BODY,
    headers: dict[str, str] | None = None,
    token: str | None = None,
    secret: str = SECRET,
    method: str = "POST",
    service: str = "elasticache",
) -> HttpRequest:
    request = AWSRequest(method, url, headers or {"Content-Type": FORM}, body)
    return sign(SigV4Auth(Credentials(KEY, secret, token), service, "eu-west-1"), request)


def presigned(url: str = URL, expires: int = 900, token: str | None = None, **fields: str) -> HttpRequest:
    data = {"Action": "GetCallerIdentity", "Version": "2011-06-15", **fields}
    request = AWSRequest("GET", url, {"Content-Type": FORM}, data)
    return sign(SigV4QueryAuth(Credentials(KEY, SECRET, token), "sts", "us-east-1", expires), request)


def secret_of(access_key: str) -> str | None:
    return SECRET if access_key == KEY else None


def refusal(request: HttpRequest, now: float = NOW) -> tuple[str, int, str]:
    with pytest.raises(Fault) as caught:
        verify(request, secret_of, now)
    assert SECRET not in repr(caught.value)
    return caught.value.code, caught.value.status, caught.value.message


def with_header(request: HttpRequest, name: str, value: str | None) -> HttpRequest:
    """The request with a header set anew, or left out."""
    rest = [pair for pair in request.headers if pair[0] != name]
    return replace(request, headers=rest if value is None else [*rest, (name, value)])


def edited(request: HttpRequest, old: str, new: str) -> HttpRequest:
    """The request with its Authorization header edited."""
    value = dict(request.headers)["authorization"]
    assert old in value
    return with_header(request, "authorization", value.replace(old, new))


def requeried(request: HttpRequest, old: str, new: str) -> HttpRequest:
    assert old in request.query
    return replace(request, query=request.query.replace(old, new))
