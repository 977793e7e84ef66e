"""Who may ask: signatures are verified on every request, and secrets are never told to anybody."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import boto3
import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from cachekeep import credentials
from cachekeep.credentials import AccessKey

from .conftest import Service

FORM = "application/x-www-form-urlencoded; charset=utf-8"
DESCRIBE = b"Action=DescribeReplicationGroups&Version=2015-02-02"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def code(self) -> str:
        found = re.search(r"<Code>(.*?)</Code>", self.text)
        return found[1] if found else ""


def signed_request(
    service: Service,
    body: bytes = DESCRIBE,
    *,
    key: AccessKey | None = None,
    at: datetime | None = None,
    scope: str = "elasticache",
    method: str = "POST",
    path: str = "/",
    headers: dict[str, str] | None = None,
) -> AWSRequest:
    """What botocore would send, not sent yet."""
    key = key or credentials.load(service.state_dir)
    headers = {"Content-Type": FORM} if headers is None else headers
    request = AWSRequest(method, service.url + path, headers, body)
    moment = (at or datetime.now(UTC)).replace(tzinfo=None)
    with patch.object(botocore.auth, "get_current_datetime", lambda **_: moment):
        SigV4Auth(Credentials(key.id, key.secret), scope, "us-east-1").add_auth(request)
    return request


def send(service: Service, request: AWSRequest) -> Reply:
    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    parts = urlsplit(str(request.url))
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        link.request(str(request.method), path, request.data or None, dict(request.headers.items()))
        answer = link.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read().decode())
    finally:
        link.close()


Change = Callable[[AWSRequest], None]


def _authorization(old: str, new: str) -> Change:
    def change(request: AWSRequest) -> None:
        value = request.headers["Authorization"]
        assert old in value
        request.headers.replace_header("Authorization", value.replace(old, new))

    return change


def _header(name: str, value: str) -> Change:
    def change(request: AWSRequest) -> None:
        del request.headers[name]
        request.headers[name] = value

    return change


def _without(name: str) -> Change:
    def change(request: AWSRequest) -> None:
        del request.headers[name]

    return change


def _body(text: bytes) -> Change:
    def change(request: AWSRequest) -> None:
        request.data = text

    return change


def test_a_good_signature_is_let_in(service: Service) -> None:
    reply = send(service, signed_request(service))
    assert reply.status == 200
    assert reply.text.startswith("<DescribeReplicationGroupsResponse")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (_without("Authorization"), 403, "MissingAuthenticationToken"),
        (_header("Authorization", "garbage"), 400, "IncompleteSignature"),
        (_header("Authorization", "Basic dXNlcjpwYXNz"), 400, "IncompleteSignature"),
        (_header("Authorization", "AWS4-HMAC-SHA256 Credential=a"), 400, "IncompleteSignature"),
        (_header("Authorization", "AWS4-HMAC-SHA256 " + "x" * 5000), 400, "IncompleteSignature"),
        (_authorization("Signature=", "Signature=0"), 403, "SignatureDoesNotMatch"),
        (_authorization("host;", ""), 403, "SignatureDoesNotMatch"),
        (_authorization("/us-east-1/", "/eu-west-1/"), 403, "SignatureDoesNotMatch"),
        (_authorization("/elasticache/", "/sts/"), 403, "SignatureDoesNotMatch"),
        (_authorization("/aws4_request", "/aws5_request"), 403, "SignatureDoesNotMatch"),
        (_body(DESCRIBE.replace(b"Groups", b"groups")), 403, "SignatureDoesNotMatch"),
        (_body(DESCRIBE + b"&MaxRecords=20"), 403, "SignatureDoesNotMatch"),
        (_header("Content-Type", "application/json"), 403, "SignatureDoesNotMatch"),
        (_header("Host", "elasticache.us-east-1.amazonaws.com"), 403, "SignatureDoesNotMatch"),
        (_header("X-Amz-Target", "unsigned"), 403, "SignatureDoesNotMatch"),
        (_without("X-Amz-Date"), 400, "IncompleteSignature"),
    ],
)
def test_what_is_not_signed_or_was_altered_is_refused(service: Service, change: Change, status: int, code: str) -> None:
    request = signed_request(service)
    change(request)
    reply = send(service, request)
    assert (reply.status, reply.code) == (status, code), reply.text
    assert "Traceback" not in reply.text


def test_wrong_keys_are_refused(service: Service) -> None:
    own = credentials.load(service.state_dir)
    reply = send(service, signed_request(service, key=AccessKey("AKCKNOBODY", own.secret)))
    assert (reply.status, reply.code) == (403, "InvalidClientTokenId")
    reply = send(service, signed_request(service, key=AccessKey(own.id, "not the secret")))
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(("minutes", "accepted"), [(-16, False), (-14, True), (14, True), (16, False)])
def test_a_stale_or_early_date_is_refused(service: Service, minutes: int, accepted: bool) -> None:
    reply = send(service, signed_request(service, at=datetime.now(UTC) + timedelta(minutes=minutes)))
    if accepted:
        assert reply.status == 200
    else:
        assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
        assert "Signature expired" in reply.text or "Signature not yet current" in reply.text


def test_a_signature_for_another_service_opens_nothing(service: Service) -> None:
    reply = send(service, signed_request(service, scope="s3"))
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
    # STS is a service of its own: what it signs for cannot be used for caches, and the reverse.
    reply = send(service, signed_request(service, scope="sts"))
    assert (reply.status, reply.code) == (400, "InvalidAction")
    identity = b"Action=GetCallerIdentity&Version=2011-06-15"
    assert send(service, signed_request(service, identity)).code == "InvalidAction"
    assert send(service, signed_request(service, identity, scope="sts")).status == 200


def test_presigned_urls(service: Service) -> None:
    sts = service.client("sts")
    for method in ("POST", "GET"):
        url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod=method)
        reply = send(service, AWSRequest(method, url, {}))
        assert reply.status == 200
        assert "<Account>000000000000</Account>" in reply.text
    for old, new in [("Expires=60", "Expires=61"), ("GetCallerIdentity", "GetSessionToken"), ("Signature=", "Sig=")]:
        assert old in url
        reply = send(service, AWSRequest("GET", url.replace(old, new), {}))
        assert reply.status in (400, 403), old
        assert reply.code in ("SignatureDoesNotMatch", "IncompleteSignature"), old
    request = AWSRequest("GET", url, {"Authorization": "AWS4-HMAC-SHA256 Credential=a"})
    assert send(service, request).code == "IncompleteSignature"


def test_the_status_page_is_for_the_command_line_only(service: Service) -> None:
    page: dict[str, Any] = {"method": "GET", "path": "/_cachekeep/status", "body": b"", "headers": {}}
    assert send(service, signed_request(service, scope="cachekeep", **page)).status == 200
    unsigned = send(service, AWSRequest("GET", service.url + "/_cachekeep/status", {}))
    assert (unsigned.status, "MissingAuthenticationToken" in unsigned.text) == (403, True)
    for scope in ("elasticache", "sts"):
        assert send(service, signed_request(service, scope=scope, **page)).status == 403
    stranger = AccessKey("AKCKNOBODY", "not the secret")
    assert send(service, signed_request(service, scope="cachekeep", key=stranger, **page)).status == 403
    # Nor does a signature for the page open the API.
    assert send(service, signed_request(service, scope="cachekeep")).code == "SignatureDoesNotMatch"


def test_further_keys_and_no_secret_is_ever_told(new_service: Callable[..., Service]) -> None:
    secrets = {"EXTRA1": "first-further-secret/+=", "EXTRA2": "second-further-secret"}
    pairs = ",".join(f"{name}:{secret}" for name, secret in secrets.items())
    service = new_service(CACHEKEEP_ACCESS_KEYS=pairs, CACHEKEEP_LOG_LEVEL="debug").start()
    own = credentials.load(service.state_dir)
    replies = []
    for name, secret in secrets.items():
        assert send(service, signed_request(service, key=AccessKey(name, secret))).status == 200
        replies.append(send(service, signed_request(service, key=AccessKey(name, secret + "x"))))
        # To somebody who mixes up the two, AWS repeats what came as the key's id; a log must not.
        assert send(service, signed_request(service, key=AccessKey(secret, name))).status in (400, 403)
        url = f"{service.url}/?X-Amz-Security-Token={secret}"
        replies.append(send(service, AWSRequest("GET", url, {"Authorization": f"Basic {secret}"})))
    assert send(service, signed_request(service)).status == 200
    assert all(400 <= reply.status < 500 for reply in replies)
    token = "a-password-for-the-cache-1234"
    ec = boto3.client(
        "elasticache",
        endpoint_url=service.url,
        region_name="us-east-1",
        aws_access_key_id="EXTRA1",
        aws_secret_access_key=secrets["EXTRA1"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ClientError) as refused:
        ec.create_replication_group(
            ReplicationGroupId="a", ReplicationGroupDescription="x", AuthToken=token, TransitEncryptionEnabled=True
        )
    made = ec.create_user(UserId="a", UserName="a", Engine="valkey", AccessString="on ~*", Passwords=[token])
    service.stop()
    told = service.log.read_text() + "".join(r.text + str(r.headers) for r in replies)
    told += str(refused.value) + str(made)
    assert "refused" in told
    for secret in (*secrets.values(), own.secret, token):
        assert secret not in told


def test_a_region_that_does_not_exist_is_refused(service: Service) -> None:
    """An empty answer would look as if all caches were gone."""
    ec = service.client(region="us-est-1")
    with pytest.raises(ClientError, match="scoped to a valid region, not 'us-est-1'"):
        ec.describe_replication_groups()
