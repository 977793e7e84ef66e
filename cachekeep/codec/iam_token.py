"""IAM tokens of engines: what AWS's client libraries send as a password, taken apart and verified. Pure.

A token is the URL of a presigned request, without its scheme:
`NAME/?Action=connect&User=ID[&ResourceType=ServerlessCache]&X-Amz-...&X-Amz-Signature=...`. Nobody ever sends that
request: whoever has the secret of the key can tell that it was made by somebody else who has it. NAME is a replication
group or a serverless cache. A token is good for 900 seconds at most, as often as it is sent.
Source: ElastiCache guide, "Authenticating with IAM"; aws-samples/elasticache-iam-auth-demo-app; botocore RequestSigner.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from cachekeep.codec.sigv4 import MAX_CLOCK_SKEW_S, Caller, HttpRequest, signed_at, verify
from cachekeep.domain.faults import Fault

MOST_BYTES: Final = 4096
MOST_EXPIRES_S: Final = 900
SERVERLESS: Final = "ServerlessCache"
_SERVICE: Final = "elasticache"
_HOST = re.compile(r"[a-z][a-z0-9-]{0,62}")
_OWN = frozenset({"Action", "User", "ResourceType"})
_SIGNING = frozenset(
    f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
)


class TokenError(Exception):
    """The token is no good; the text says why, for the service's log. Never repeats what could still be used."""


@dataclass(frozen=True)
class IamToken:
    """What a good token says. cache: a replication group, or a serverless cache where serverless.

    good_from, good_until: seconds since 1970, by the clock of whoever verified it."""

    caller: Caller
    cache: str
    user: str
    serverless: bool
    good_from: float
    good_until: float


def verify_token(text: str, secret_of: Callable[[str], str | None], now: float) -> IamToken:
    """now: seconds since 1970. Raises TokenError, also for a key that secret_of does not know.

    Whether cache, user and region are those of the engine that was asked, and whether the key may connect to them, is
    for the caller to say.
    """
    if len(text) > MOST_BYTES or not text.isascii() or not text.isprintable() or " " in text:
        raise TokenError(f"it is longer than {MOST_BYTES} bytes, or has characters that no URL has")
    host, slash, query = text.partition("/?")
    if not slash or not _HOST.fullmatch(host):
        raise TokenError("it does not begin with the name of a cache in lower case and `/?`")
    given = _fields(query)
    if given.get("Action") != "connect" or not given.get("User"):
        raise TokenError("it is not for Action=connect of a User")
    if given.get("ResourceType") not in (None, SERVERLESS):
        raise TokenError(f"its ResourceType is not {SERVERLESS}")
    if given["X-Amz-SignedHeaders"] != "host":
        raise TokenError("its signed headers are not `host`")
    expires = given["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,3}", expires) or not 0 < int(expires) <= MOST_EXPIRES_S:
        raise TokenError(f"it is not good for 1 to {MOST_EXPIRES_S} s")
    try:
        caller = verify(HttpRequest("GET", "/", query, [("host", host)], b""), secret_of, now)
    except Fault as fault:
        raise TokenError(f"{fault.code}: {fault.message}") from None
    if caller.service != _SERVICE:
        raise TokenError(f"it is signed for the service {caller.service!r}")
    made_at = signed_at(given["X-Amz-Date"])
    good = made_at - MAX_CLOCK_SKEW_S, made_at + int(expires)
    return IamToken(caller, host, given["User"], "ResourceType" in given, *good)


def _fields(query: str) -> dict[str, str]:
    """Each once, and none that could mean something to others: what is signed has one reading only."""
    given: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == "X-Amz-Security-Token":
            raise TokenError("it is of temporary credentials, which are not known here")
        if name not in _OWN and name not in _SIGNING:
            raise TokenError("it has a parameter that is none of a token's")
        if name in given:
            raise TokenError(f"its {name} stands twice")
        given[name] = unquote(value)
    missing = sorted(_SIGNING - set(given))
    if missing:
        raise TokenError(f"its {missing[0]} is missing")
    return given
