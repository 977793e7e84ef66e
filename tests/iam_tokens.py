"""Tokens as AWS's client libraries make them: by botocore's RequestSigner, scheme cut off. For tests and benchmarks."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import urlencode, urlunsplit

import botocore.auth
from botocore.credentials import Credentials
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner


def make_token(
    cache: str,
    user: str,
    key: str,
    secret: str,
    *,
    region: str = "us-east-1",
    service: str = "elasticache",
    expires_s: int = 900,
    at: float | None = None,
    session_token: str | None = None,
    **more: str,
) -> str:
    """at: when it was made, seconds since 1970; now when None. more: further parameters, signed as well."""
    query = urlencode({"Action": "connect", "User": user, **more})
    credentials = Credentials(key, secret, session_token)
    events = HierarchicalEmitter()  # of which the signer keeps a weak reference
    signer = RequestSigner(ServiceId(service), region, service, "v4", credentials, events)
    request = {
        "method": "GET",
        "url": urlunsplit(("http", cache, "/", query, "")),
        "body": {},
        "headers": {},
        "context": {},
    }
    moment = (datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)).replace(tzinfo=None)
    with patch.object(botocore.auth, "get_current_datetime", lambda **_: moment):
        made = signer.generate_presigned_url(
            request, operation_name="connect", expires_in=expires_s, region_name=region
        )
    return str(made).removeprefix("http://")
