"""IAM tokens: those of AWS's client libraries are good, and everything that differs from one is not."""

from __future__ import annotations

import random
import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachekeep.codec.iam_token import MOST_BYTES, IamToken, TokenError, verify_token
from tests.iam_tokens import make_token

NOW = 1_790_000_000.0
KEY, SECRET = "AKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = {KEY: SECRET}


def token(cache: str = "my-rg", user: str = "alice", *, at: float = NOW, **more: object) -> str:
    return make_token(cache, user, KEY, SECRET, at=at, **more)  # type: ignore[arg-type]


def verified(text: str, now: float = NOW) -> IamToken:
    return verify_token(text, KEYS.get, now)


def test_a_token_of_botocore_is_good() -> None:
    found = verified(token())
    assert (found.cache, found.user, found.serverless) == ("my-rg", "alice", False)
    assert (found.caller.access_key, found.caller.region) == (KEY, "us-east-1")
    serverless = verified(token("my-cache", region="eu-west-1", ResourceType="ServerlessCache"))
    assert (serverless.serverless, serverless.caller.region) == (True, "eu-west-1")


def test_it_is_good_as_often_as_it_is_sent_until_it_expires() -> None:
    text = token()
    for later in (0, 1, 450, 900):
        verified(text, NOW + later)
    with pytest.raises(TokenError, match="Signature expired"):
        verified(text, NOW + 901)
    with pytest.raises(TokenError, match="Signature expired"):
        verified(token(expires_s=60), NOW + 61)


def test_clocks_may_differ_by_a_quarter_of_an_hour() -> None:
    verified(token(at=NOW + 899))
    with pytest.raises(TokenError, match="not yet current"):
        verified(token(at=NOW + 901))
    with pytest.raises(TokenError, match="Signature expired"):
        verified(token(at=NOW - 3600))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (token(expires_s=901), "good for 1 to 900"),
        (token(expires_s=604800), "good for 1 to 900"),
        (token(service="s3"), "'s3'"),
        (token(service="memorydb"), "'memorydb'"),
        (token(session_token="abc"), "temporary credentials"),
        (make_token("my-rg", "alice", "AKIAOTHER", SECRET, at=NOW), "InvalidClientTokenId"),
        (make_token("my-rg", "alice", KEY, SECRET + "x", at=NOW), "SignatureDoesNotMatch"),
        (token(ResourceType="Other"), "ResourceType"),
        (token(X="1"), "none of a token's"),
        (token("MY-RG"), "does not begin"),
        (token("my-rg.example.com"), "does not begin"),
        (token("my-rg:6379"), "does not begin"),
        (token().replace("connect", "Connect"), "Action=connect"),
        (token().replace("Action=connect&", ""), "Action=connect"),
        (token(user=""), "of a User"),
        (token() + "&User=root", "stands twice"),
        (token() + "&user=root", "none of a token's"),
        (token() + "&X-Amz-Expires=900", "stands twice"),
        (token() + "&x-amz-date=20260101T000000Z", "none of a token's"),
        (token() + "&", "none of a token's"),
        (token().replace("SignedHeaders=host", "SignedHeaders=host%3Bx-user"), "signed headers"),
        (token().replace("User=alice", "User=root"), "SignatureDoesNotMatch"),
        (token().replace("my-rg", "your-rg"), "SignatureDoesNotMatch"),
        (token().replace("us-east-1", "eu-west-1"), "SignatureDoesNotMatch"),
        (token().replace("X-Amz-Expires=900", "X-Amz-Expires=899"), "SignatureDoesNotMatch"),
        ("http://" + token(), "does not begin"),
        ("/" + token(), "does not begin"),
        (token().replace("/?", "/x?"), "does not begin"),
        (token().replace("/?", "?"), "does not begin"),
        (token() + "\r\nX-User: root", "no URL has"),
        (token() + "\0", "no URL has"),
        (token() + "\u0130", "no URL has"),
        (token() + "a" * MOST_BYTES, "longer than"),
        ("", "does not begin"),
        ("my-rg/?", "none of a token's"),
        ("my-rg/?X-Amz-Signature=" + "0" * 64, "X-Amz-Algorithm is missing"),
        (re.sub("&X-Amz-Signature=.*", "", token()), "X-Amz-Signature is missing"),
        (re.sub("&X-Amz-Date=[^&]*", "", token()), "X-Amz-Date is missing"),
    ],
)  # fmt: skip
def test_what_is_not_what_was_signed_is_refused(text: str, why: str) -> None:
    with pytest.raises(TokenError, match=re.escape(why)) as caught:
        verified(text)
    assert SECRET not in str(caught.value)
    assert not re.search("[0-9a-f]{64}", str(caught.value))


@given(st.integers(min_value=0), st.sampled_from("abcXYZ019%&=?/-+ \0é"))
@example(0, "n")
def test_no_changed_character_goes_unseen(place: int, other: str) -> None:
    text = token()
    place %= len(text)
    if text[place] == other:
        return
    with pytest.raises(TokenError):
        verified(text[:place] + other + text[place + 1 :])


@given(st.text(max_size=400))
def test_no_text_breaks_it(text: str) -> None:
    for garbage in (text, f"my-rg/?{text}", f"my-rg/?Action=connect&User={quote(text)}&X-Amz-Signature={text}"):
        with pytest.raises(TokenError):
            verified(garbage)


def test_shuffled_tokens_are_the_same_request() -> None:
    """Parameters may stand in any order, as in any presigned URL: what counts is what was signed."""
    head, _, query = token().partition("/?")
    pairs = query.split("&")
    random.Random(7).shuffle(pairs)
    assert verified(f"{head}/?{'&'.join(pairs)}").user == "alice"
