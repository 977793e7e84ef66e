"""Signatures: every request that botocore signs is believed."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import thorough
from signing import BODY, KEY, MISMATCH, NOW, SECRET, URL, presigned, refusal, secret_of, sign, signed, with_header

from cachekeep.codec import sigv4
from cachekeep.codec.sigv4 import Caller, verify
from cachekeep.domain.faults import Fault


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEXAMPLE//=="])
def test_a_signed_request_is_believed(token: str | None) -> None:
    assert verify(signed(token=token), secret_of, NOW) == Caller(KEY, "eu-west-1", "elasticache", "20261122")


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEXAMPLE//=="])
def test_a_presigned_request_is_believed(token: str | None) -> None:
    assert verify(presigned(token=token), secret_of, NOW) == Caller(KEY, "us-east-1", "sts", "20261122")


@pytest.mark.parametrize(
    "url",
    [
        "https://elasticache.eu-west-1.amazonaws.com",
        "https://x.test/a//b/./c/../d/",
        "https://x.test/a%20b/%C3%A9~;p=1",
        "https://x.test/..",
        "https://x.test/?b=2&a=1&a=0&c&d=&%20=%2F",
        "http://[::1]:8080/?x=1",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_paths_and_queries_are_read_as_botocore_signs_them(url: str, method: str) -> None:
    verify(signed(url, method=method), secret_of, NOW)


def test_a_request_shows_no_secrets_when_logged() -> None:
    assert repr(signed(body=b"AuthToken=hush", token="t")) == "HttpRequest(method='POST', path='/')"


def test_a_date_header_may_stand_for_x_amz_date() -> None:
    request = signed(headers={"Date": "to be set by the signer"})
    assert dict(request.headers)["date"] == "Sun, 22 Nov 2026 21:00:00 -0000"
    verify(request, secret_of, NOW)


def test_a_repeated_header_is_joined_by_commas() -> None:
    request = AWSRequest("POST", URL, {}, BODY)
    request.headers.add_header("X-Amz-Meta", "  b   c ")
    request.headers.add_header("X-Amz-Meta", "a")
    verify(sign(SigV4Auth(Credentials(KEY, SECRET), "elasticache", "eu-west-1"), request), secret_of, NOW)


def test_the_hash_of_the_body_may_be_declared() -> None:
    verify(signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()}), secret_of, NOW)


def test_an_unsigned_payload_is_believed_where_there_is_none() -> None:
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    verify(signed(body=b"", headers=headers, method="GET"), secret_of, NOW)
    assert refusal(signed(headers=headers))[0] == "SignatureDoesNotMatch"
    assert refusal(signed(body=b"", headers=headers))[0] == "SignatureDoesNotMatch"
    assert refusal(signed(headers=headers, method="GET"))[0] == "SignatureDoesNotMatch"


def test_headers_that_are_not_signed_may_be_added_on_the_way() -> None:
    request = with_header(signed(), "x-amzn-trace-id", "Root=1")
    verify(with_header(request, "user-agent", "x"), secret_of, NOW)


_VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
_QUERY = st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=6)


@thorough
@given(_QUERY, st.dictionaries(st.sampled_from(["X-Amz-A", "X-B", "X-b-c", "Cookie"]), _VALUE), st.binary(max_size=20))
def test_whatever_botocore_signs_is_believed(
    query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    text = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in query)
    verify(signed(f"https://x.test/?{text}", body=body, headers=headers), secret_of, NOW)


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "replace"), safe="-_.~")


@thorough
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text("aé &=+%/~")))
def test_whatever_botocore_presigns_is_believed(fields: dict[str, str]) -> None:
    verify(presigned(**{f"f{name}": value for name, value in fields.items()}), secret_of, NOW)


# --- the derived keys ---


def test_derived_keys_are_kept_but_bounded() -> None:
    keys = sigv4._SigningKeys(2)
    scopes = [(b"h", "20261122", f"r{n}", "s") for n in range(3)]
    keys.put(scopes[0], b"0")
    keys.put(scopes[1], b"1")
    assert keys.get(scopes[0]) == b"0"
    keys.put(scopes[2], b"2")
    assert [keys.get(scope) for scope in scopes] == [b"0", None, b"2"]


def test_only_a_verified_request_leaves_a_key_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = sigv4._SigningKeys(2)
    monkeypatch.setattr(sigv4, "_KEYS", keys)
    refusal(signed(secret="wrong"))
    assert not keys._keys
    verify(signed(), secret_of, NOW)
    verify(signed(), secret_of, NOW)
    assert len(keys._keys) == 1


def test_a_changed_secret_is_not_answered_from_an_old_key() -> None:
    verify(signed(), secret_of, NOW)
    with pytest.raises(Fault, match=MISMATCH):
        verify(signed(), lambda _: "rotated", NOW)
