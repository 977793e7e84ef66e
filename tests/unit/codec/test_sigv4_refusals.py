"""Signatures: no request that was altered, is stale, or is garbled is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import thorough
from signing import (
    BODY,
    FORM,
    KEY,
    MISMATCH,
    NOW,
    edited,
    presigned,
    refusal,
    requeried,
    secret_of,
    signed,
    with_header,
)

from cachekeep.codec.sigv4 import HttpRequest, verify
from cachekeep.domain.faults import Fault


def test_a_request_without_a_signature_is_refused() -> None:
    request = with_header(signed(), "authorization", None)
    assert refusal(request) == ("MissingAuthenticationToken", 403, "Missing Authentication Token")


def test_an_unknown_key_is_refused() -> None:
    fault = ("InvalidClientTokenId", 403, "The security token included in the request is invalid.")
    assert refusal(edited(signed(), KEY, "AKIDOTHER")) == fault
    assert refusal(requeried(presigned(), KEY, "AKIDOTHER")) == fault


def test_an_empty_secret_opens_nothing() -> None:
    with pytest.raises(Fault, match="security token"):
        verify(signed(secret=""), lambda _: "", NOW)


def test_a_wrong_secret_is_refused() -> None:
    code, status, message = refusal(signed(secret="wrong"))
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    assert message.startswith(MISMATCH)


ALTERED: dict[str, Callable[[HttpRequest], HttpRequest]] = {
    "body": lambda r: replace(r, body=BODY + b"&x=1"),
    "empty body": lambda r: replace(r, body=b""),
    "method": lambda r: replace(r, method="PUT"),
    "path": lambda r: replace(r, path="/x"),
    "query": lambda r: replace(r, query="x=1"),
    "host": lambda r: with_header(r, "host", "127.0.0.1:9090"),
    "content type": lambda r: with_header(r, "content-type", "text/plain"),
    "date": lambda r: with_header(r, "x-amz-date", "20261122T210001Z"),
    "token": lambda r: with_header(r, "x-amz-security-token", "other"),
    "a signed header is missing": lambda r: with_header(r, "content-type", None),
    "a signed header is repeated": lambda r: replace(r, headers=[*r.headers, ("content-type", FORM)]),
    "region": lambda r: edited(r, "eu-west-1", "eu-west-2"),
    "service": lambda r: edited(r, "elasticache", "sts"),
    "signed headers": lambda r: edited(r, "content-type;", ""),
    "signature": lambda r: edited(r, "Signature=", "Signature=0"),
    "signature in upper case": lambda r: edited(
        r, dict(r.headers)["authorization"][-64:], dict(r.headers)["authorization"][-64:].upper()
    ),
    "signature outside ASCII": lambda r: edited(r, "Signature=", "Signature=é"),
    "declared hash": lambda r: with_header(r, "x-amz-content-sha256", hashlib.sha256(BODY).hexdigest()),
    "new x-amz header": lambda r: with_header(r, "x-amz-target", "Other.Operation"),
}


@pytest.mark.parametrize("part", sorted(ALTERED))
def test_an_altered_request_is_refused(part: str) -> None:
    assert refusal(ALTERED[part](signed(token="token")))[:2] == ("SignatureDoesNotMatch", 403)


def test_a_wrong_declared_hash_is_refused() -> None:
    request = signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"other").hexdigest()})
    assert refusal(request)[0] == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GetCallerIdentity", "GetSessionToken"),
        ("Action=", "Action=&Action="),
        ("X-Amz-Expires=900", "X-Amz-Expires=901"),
        ("T210000Z", "T210001Z"),
        ("us-east-1", "us-east-2"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("X-Amz-Security-Token=t", "X-Amz-Security-Token=u"),
        ("&X-Amz-Security-Token=t", ""),
        ("X-Amz-Signature=", "x=1&X-Amz-Signature="),
    ],
)
def test_an_altered_presigned_request_is_refused(old: str, new: str) -> None:
    assert refusal(requeried(presigned(token="t"), old, new))[:2] == ("SignatureDoesNotMatch", 403)


def test_a_presigned_request_covers_its_body() -> None:
    assert refusal(replace(presigned(), body=b"Action=Other"))[0] == "SignatureDoesNotMatch"


def test_a_new_x_amz_header_beside_a_presigned_query_is_refused() -> None:
    assert refusal(with_header(presigned(), "x-amz-security-token", "t"))[0] == "SignatureDoesNotMatch"


@pytest.mark.parametrize("age_s", [-900, 900])
def test_fifteen_minutes_are_allowed_either_way(age_s: int) -> None:
    verify(signed(), secret_of, NOW + age_s)


def test_a_stale_request_is_refused_in_awss_words() -> None:
    assert refusal(signed(), NOW + 901) == (
        "SignatureDoesNotMatch",
        403,
        "Signature expired: 20261122T210000Z is now earlier than 20261122T210001Z (20261122T211501Z - 15 min.)",
    )


def test_a_request_from_the_future_is_refused_in_awss_words() -> None:
    for request in (signed(), presigned()):
        assert refusal(request, NOW - 901) == (
            "SignatureDoesNotMatch",
            403,
            "Signature not yet current: 20261122T210000Z is still later than 20261122T205959Z "
            "(20261122T204459Z + 15 min.)",
        )


def test_a_presigned_request_lives_as_long_as_it_says() -> None:
    verify(presigned(expires=60), secret_of, NOW + 60)
    assert refusal(presigned(expires=60), NOW + 61)[2] == (
        "Signature expired: 20261122T210000Z is now earlier than 20261122T210001Z (20261122T210101Z - 1 min.)"
    )
    verify(presigned(expires=604800), secret_of, NOW + 604800)


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "9999999", "x", "", "%D9%A3"])
def test_a_presigned_lifetime_is_a_week_at_most(expires: str) -> None:
    request = requeried(presigned(expires=900), "X-Amz-Expires=900", f"X-Amz-Expires={expires}")
    assert refusal(request)[:2] == ("IncompleteSignature", 400)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("/20261122/", "/20261121/", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date"),
        ("aws4_request", "aws5_request", "Credential should be scoped with a valid terminator: 'aws4_request', not"),
        ("/eu-west-1/", "/EU WEST/", "Credential should be scoped to a valid region, not 'EU WEST'"),
        ("/eu-west-1/", f"/{'a' * 33}/", "Credential should be scoped to a valid region, not"),
        ("content-type;host;", "content-type;", "'Host' or ':authority' must be a 'SignedHeader'"),
        (";x-amz-date", "", "'x-amz-date' must be a 'SignedHeader'"),
    ],
)
def test_a_wrong_scope_is_refused_and_named(old: str, new: str, message: str) -> None:
    code, status, text = refusal(edited(signed(), old, new))
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    assert text.startswith(message)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        "Basic YWxhZGRpbg==",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 Credential=a/b/c",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=, SignedHeaders=, Signature=",
        "AWS4-HMAC-SHA256 Credential=a/20261122/r/s/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 Credential=a/20261122/r/s/aws4_request/x, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=/20261122/r/s/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/20261122/r/s/aws4_request, SignedHeaders=host;Host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/20261122/r/s/aws4_request, SignedHeaders=x;host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/20261122/r/s/aws4_request, SignedHeaders=host;host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a, Credential=b, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA512 Credential=a/20261122/r/s/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 " + "a=b," * 5000,
    ],
)
def test_a_garbled_authorization_is_incomplete(value: str) -> None:
    assert refusal(with_header(signed(), "authorization", value))[:2] == ("IncompleteSignature", 400)


def test_what_is_missing_is_named() -> None:
    request = with_header(signed(), "authorization", "AWS4-HMAC-SHA256 Credential=a/20261122/r/s/aws4_request")
    assert refusal(with_header(request, "x-amz-date", None))[2] == (
        "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. "
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
    )


@pytest.mark.parametrize(
    "date", ["", "yesterday", "20261322T210000Z", "20261122T250000Z", "Sun, 22 Foo 2026 21:00:00 GMT"]
)
def test_a_garbled_date_is_incomplete(date: str) -> None:
    assert refusal(with_header(signed(), "x-amz-date", date))[:2] == ("IncompleteSignature", 400)


def test_two_authorizations_are_refused() -> None:
    request = signed()
    twice = replace(request, headers=[*request.headers, ("authorization", "x")])
    assert refusal(twice)[:2] == ("IncompleteSignature", 400)
    both = replace(request, query=presigned().query)
    assert refusal(both)[:2] == ("IncompleteSignature", 400)


@pytest.mark.parametrize("name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"])
def test_a_presigned_query_lacking_a_part_is_incomplete(name: str) -> None:
    request = requeried(presigned(), f"X-Amz-{name}=", "Y=")
    assert refusal(request)[:2] == ("IncompleteSignature", 400)


def test_a_presigned_query_repeating_a_part_is_refused() -> None:
    request = requeried(presigned(), "X-Amz-Signature=", "X-Amz-Signature=0&X-Amz-Signature=")
    assert refusal(request)[:2] == ("IncompleteSignature", 400)


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("POST", "/" * 5000, "", [], b""),
        HttpRequest("POST", "/", "a" * 100_000, [], b""),
        HttpRequest("POST", "/", "", [("a", "b")] * 300, b""),
        HttpRequest("POST", "/", "", [("a", "b" * 200_000)], b""),
        HttpRequest("POST", "/", "", [], bytes((1 << 23) + 1)),
        HttpRequest("POST", "/", "a=1\nhost:x", [], b""),
    ],
    ids=["path", "query", "headers", "header bytes", "body", "line break"],
)
def test_sizes_are_bounded(request_: HttpRequest) -> None:
    assert refusal(request_)[:2] == ("IncompleteSignature", 400)


_TEXT = st.text() | st.sampled_from(
    ["host", "a/20261122/r/s/aws4_request", "AWS4-HMAC-SHA256", "20261122T210000Z", "900"]
)
_AUTH = st.builds("AWS4-HMAC-SHA256 Credential={}, SignedHeaders={}, Signature={}".format, _TEXT, _TEXT, _TEXT)
_NAMES = st.sampled_from(["authorization", "x-amz-date", "date", "host", "x-amz-content-sha256"])
_PAIRS = st.tuples(st.text() | st.sampled_from([f"X-Amz-{n}" for n in ("Algorithm", "Credential", "Date")]), _TEXT)


@thorough
@given(st.text(), st.text(), st.lists(_PAIRS), st.lists(st.tuples(_NAMES, _TEXT | _AUTH)), st.binary())
def test_no_request_raises_anything_but_a_fault(
    method: str, path: str, query: list[tuple[str, str]], headers: list[tuple[str, str]], body: bytes
) -> None:
    request = HttpRequest(method, path, "&".join(map("=".join, query)), headers, body)
    with suppress(Fault):
        verify(request, lambda _: "\ud800 secret", NOW)


@thorough
@given(st.text(), st.text())
def test_strange_text_in_a_signed_request_raises_nothing_but_a_fault(path: str, value: str) -> None:
    with suppress(Fault):
        verify(replace(with_header(signed(), "content-type", value), path=path), secret_of, NOW)
