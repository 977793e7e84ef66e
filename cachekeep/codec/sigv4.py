"""Verification of AWS Signature Version 4: is this request from who it says, and unaltered? Pure.

Two forms: the `Authorization` header, and the presigned URL (`X-Amz-Algorithm` ... in the query), which STS
GetCallerIdentity tokens use. Verifying is signing again with the secret that we know and comparing; so the
canonical request below must be, byte for byte, the one that the client built. Called by the surfaces, before
anything of a request is believed. Secrets never reach a message or a repr.
Source: AWS "Signature Version 4 signing process"; botocore/auth.py.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Final, NoReturn
from urllib.parse import quote, unquote

from cachekeep.domain.faults import Fault

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TERMINATOR: Final = "aws4_request"
MAX_CLOCK_SKEW_S: Final = 15 * 60
MAX_EXPIRES_S: Final = 7 * 24 * 3600
_MAX_PATH, _MAX_QUERY, _MAX_BODY = 4096, 1 << 16, 1 << 23
_MAX_HEADERS, _MAX_HEADER_BYTES = 200, 1 << 17
_MAX_AUTHORIZATION = 4096

_ISO_BASIC = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_RFC_1123 = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}) (?:GMT|[+-]0000)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_ACCESS_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"

_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True)
class HttpRequest:
    """A request as it came over the wire: path and query undecoded, header names in lower case.

    source: the address that it came from, "" where nobody knows. The repr leaves out what may hold passwords, session
    tokens and signatures that are still good.
    """

    method: str
    path: str
    query: str = field(repr=False)
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)
    source: str = field(default="", repr=False)


@dataclass(frozen=True)
class Caller:
    """Who signed, and for what: the access key and the credential scope (date is YYYYMMDD)."""

    access_key: str
    region: str
    service: str
    date: str


@dataclass(frozen=True)
class _Claim:
    """What a request says about its signature, not yet believed.

    pairs: the query's names and values, undecoded, without the signature.
    expires_s: None for the header form, which is good for the allowed clock skew only.
    """

    caller: Caller
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    expires_s: int | None
    pairs: list[tuple[str, str]]


def verify(request: HttpRequest, secret_of: Callable[[str], str | None], now: float) -> Caller:
    """Return the caller whose signature this request bears.

    secret_of gives the secret of an access key, or None for an unknown one. now: seconds since 1970.
    Raises Fault: MissingAuthenticationToken, InvalidClientTokenId, SignatureDoesNotMatch (403),
    IncompleteSignature (400). Whether the caller's service and region are the right ones is for the surface to say.
    """
    _check_sizes(request)
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name, []).append(value)
    pairs = _query_pairs(request.query)
    presigned = any(name == "X-Amz-Algorithm" or name == "X-Amz-Signature" for name, _ in pairs)
    if "authorization" in headers:
        if presigned:
            raise _incomplete(
                "Only one of the Authorization header and the X-Amz-Algorithm query parameter may be given."
            )
        claim = _header_claim(headers, pairs)
    elif presigned:
        claim = _query_claim(pairs)
    else:
        raise Fault("MissingAuthenticationToken", "Missing Authentication Token", 403)
    _check_signed(claim.signed_headers, headers)
    secret = secret_of(claim.caller.access_key)
    if not secret:
        raise Fault("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
    _check_time(claim, now)
    _check_signature(claim, _canonical_request(request, claim, headers), secret)
    return claim.caller


def _check_sizes(request: HttpRequest) -> None:
    if (
        len(request.path) > _MAX_PATH
        or len(request.query) > _MAX_QUERY
        or len(request.body) > _MAX_BODY
        or len(request.headers) > _MAX_HEADERS
        or sum(len(name) + len(value) for name, value in request.headers) > _MAX_HEADER_BYTES
    ):
        raise _incomplete("The request is too large to be verified.")
    if "\n" in request.query or "\n" in request.method:
        # Lines are what a canonical request is made of: no HTTP server lets these through, and nor do we.
        raise _incomplete("The request line holds a line break.")


def _query_pairs(query: str) -> list[tuple[str, str]]:
    """Undecoded, as the client signed them: a client signs the very text that it sends."""
    if not query:
        return []
    pairs = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        pairs.append((name, value))
    return pairs


# --- what the request claims ---


def _header_claim(headers: dict[str, list[str]], pairs: list[tuple[str, str]]) -> _Claim:
    parts = _authorization(headers["authorization"])
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    dates = headers.get("x-amz-date") or headers.get("date")
    if missing or dates is None:
        sentences = [f"Authorization header requires '{name}' parameter." for name in missing]
        if dates is None:
            sentences.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
        raise _incomplete(" ".join(sentences))
    timestamp = _timestamp(dates)
    return _Claim(
        caller=_caller(parts["Credential"], timestamp),
        signed_headers=_signed_headers(parts["SignedHeaders"]),
        signature=parts["Signature"],
        timestamp=timestamp,
        expires_s=None,
        pairs=pairs,
    )


def _authorization(values: list[str]) -> dict[str, str]:
    """Read `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`."""
    if len(values) != 1 or len(values[0]) > _MAX_AUTHORIZATION:
        raise _incomplete("The request must have one Authorization header of a reasonable length.")
    algorithm, _, rest = values[0].strip().partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:40]}'. Use '{ALGORITHM}'.")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in parts:
            raise _incomplete("Authorization header must be made of distinct name=value parts, separated by commas.")
        parts[name] = value
    return parts


def _query_claim(pairs: list[tuple[str, str]]) -> _Claim:
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith("X-Amz-"):
            if name in given:
                raise _incomplete(f"AWS query-string parameters must not be repeated: '{name[:40]}'.")
            given[name] = unquote(value)
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    missing = [f"'X-Amz-{name}'" for name in names if not given.get(f"X-Amz-{name}")]
    if missing:
        raise _incomplete(f"AWS query-string parameters must include {', '.join(missing)}.")
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{given['X-Amz-Algorithm'][:40]}'. Use '{ALGORITHM}'.")
    expires = given["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 0 < int(expires) <= MAX_EXPIRES_S:
        raise _incomplete(f"X-Amz-Expires must be a number of seconds between 1 and {MAX_EXPIRES_S}.")
    timestamp = _timestamp([given["X-Amz-Date"]])
    return _Claim(
        caller=_caller(given["X-Amz-Credential"], timestamp),
        signed_headers=_signed_headers(given["X-Amz-SignedHeaders"]),
        signature=given["X-Amz-Signature"],
        timestamp=timestamp,
        expires_s=int(expires),
        pairs=[(name, value) for name, value in pairs if name != "X-Amz-Signature"],
    )


def _timestamp(values: list[str]) -> str:
    """Return the date in the form in which it is signed, YYYYMMDDTHHMMSSZ; a Date header is often in RFC 1123's."""
    text = values[0].strip() if len(values) == 1 else ""
    http = _RFC_1123.fullmatch(text)
    if http is not None:
        day, month, year, clock = http[1].split(" ")
        if month in _MONTHS:
            text = f"{year}{_MONTHS.index(month) + 1:02d}{day}T{clock.replace(':', '')}Z"
    try:
        if _ISO_BASIC.fullmatch(text):
            signed_at(text)
            return text
    except ValueError:
        pass
    raise _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{text[:40]}'.")


def signed_at(timestamp: str) -> int:
    """Seconds since 1970 of YYYYMMDDTHHMMSSZ. Raises ValueError for a day or an hour that does not exist."""
    t = timestamp
    moment = datetime(int(t[:4]), int(t[4:6]), int(t[6:8]), int(t[9:11]), int(t[11:13]), int(t[13:15]), tzinfo=UTC)
    return int(moment.timestamp())


def _caller(credential: str, timestamp: str) -> Caller:
    parts = credential.split("/")
    if len(parts) != 5 or not _ACCESS_KEY.fullmatch(parts[0]):
        raise _incomplete(
            # What was given is not repeated: somebody may have put the secret where the key id belongs.
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."
        )
    access_key, date, region, service, term = parts
    if term != TERMINATOR:
        _refuse(f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{term[:40]}'.")
    if not _REGION.fullmatch(region):
        _refuse(f"Credential should be scoped to a valid region, not '{region[:40]}'.")
    if not _REGION.fullmatch(service):
        _refuse(f"Credential should be scoped to correct service, not '{service[:40]}'.")
    if date != timestamp[:8]:
        _refuse(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{date[:40]}' != '{timestamp[:8]}', from '{timestamp}'."
        )
    return Caller(access_key, region, service, date)


def _signed_headers(text: str) -> tuple[str, ...]:
    names = text.split(";")
    if len(names) > _MAX_HEADERS or names != sorted(set(names)) or not all(map(_HEADER_NAME.fullmatch, names)):
        raise _incomplete("SignedHeaders must be distinct header names in lower case, sorted, separated by semicolons.")
    return tuple(names)


# --- whether it holds ---


def _check_signed(signed: tuple[str, ...], headers: dict[str, list[str]]) -> None:
    """Host says which service was meant, x-amz-* what was meant: left unsigned, someone between could change them."""
    if "host" not in signed:
        _refuse("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    for name in headers:
        if name.startswith("x-amz-") and name not in signed:
            _refuse(f"'{name[:60]}' must be a 'SignedHeader' in the AWS Authorization.")
    if any(name not in headers for name in signed):
        _refuse(_MISMATCH)


def _check_time(claim: _Claim, now: float) -> None:
    made_at = signed_at(claim.timestamp)
    lifetime_s = MAX_CLOCK_SKEW_S if claim.expires_s is None else claim.expires_s
    if made_at < now - lifetime_s:
        limit = f"{_iso_basic(now - lifetime_s)} ({_iso_basic(now)} - {lifetime_s / 60:g} min.)"
        _refuse(f"Signature expired: {claim.timestamp} is now earlier than {limit}")
    if made_at > now + MAX_CLOCK_SKEW_S:
        limit = f"{_iso_basic(now + MAX_CLOCK_SKEW_S)} ({_iso_basic(now)} + {MAX_CLOCK_SKEW_S // 60} min.)"
        _refuse(f"Signature not yet current: {claim.timestamp} is still later than {limit}")


def _iso_basic(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _canonical_request(request: HttpRequest, claim: _Claim, headers: dict[str, list[str]]) -> bytes:
    lines = [
        request.method.upper(),
        _canonical_path(request.path),
        "&".join([f"{name}={value}" for name, value in sorted(claim.pairs)]),
        *[f"{name}:{','.join([' '.join(value.split()) for value in headers[name]])}" for name in claim.signed_headers],
        "",
        ";".join(claim.signed_headers),
        _payload_hash(request, headers.get("x-amz-content-sha256")),
    ]
    # Header values are Latin-1 read as text; whatever else got in must not be an error here.
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _canonical_path(path: str) -> str:
    """Without dot segments and doubled slashes (RFC 3986, 5.2.4), and percent-encoded once more than it was sent."""
    if path in ("", "/"):
        return "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    first = "/" if path[0] == "/" else ""
    last = "/" if path[-1] == "/" and kept else ""
    return quote((first + "/".join(kept) + last).encode("utf-8", "surrogatepass"), safe="/~")


def _payload_hash(request: HttpRequest, declared: list[str] | None) -> str:
    """The body is always hashed here, never taken from the header, which only says what the client believes."""
    actual = hashlib.sha256(request.body).hexdigest()
    if declared is None or declared == [actual]:
        return actual
    if declared == [_UNSIGNED] and not request.body and request.method.upper() != "POST":
        return _UNSIGNED
    return _refuse(_MISMATCH)


def _check_signature(claim: _Claim, canonical_request: bytes, secret: str) -> None:
    caller = claim.caller
    scope = (
        hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest(),
        caller.date,
        caller.region,
        caller.service,
    )
    key = _KEYS.get(scope)
    fresh = key is None
    if key is None:
        key = _signing_key(secret, caller)
    to_sign = (
        f"{ALGORITHM}\n{claim.timestamp}\n{caller.date}/{caller.region}/{caller.service}/{TERMINATOR}\n"
        f"{hashlib.sha256(canonical_request).hexdigest()}"
    )
    expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
    if not _SIGNATURE.fullmatch(claim.signature) or not hmac.compare_digest(expected, claim.signature):
        _refuse(_MISMATCH)
    if fresh:
        # Only now: nobody without the secret can push other callers' keys out.
        _KEYS.put(scope, key)


def _signing_key(secret: str, caller: Caller) -> bytes:
    key = b"AWS4" + secret.encode("utf-8", "surrogatepass")
    for part in (caller.date, caller.region, caller.service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


_Scope = tuple[bytes, str, str, str]


class _SigningKeys:
    """The derived keys used last: a client's key is the same all day, and costs four HMACs to derive."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: OrderedDict[_Scope, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, scope: _Scope) -> bytes | None:
        with self._lock:
            key = self._keys.get(scope)
            if key is not None:
                self._keys.move_to_end(scope)
            return key

    def put(self, scope: _Scope, key: bytes) -> None:
        with self._lock:
            self._keys[scope] = key
            if len(self._keys) > self._size:
                self._keys.popitem(last=False)


_KEYS = _SigningKeys(256)


def _incomplete(message: str) -> Fault:
    return Fault("IncompleteSignature", message, 400)


def _refuse(message: str) -> NoReturn:
    raise Fault("SignatureDoesNotMatch", message, 403)
