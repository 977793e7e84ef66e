"""Answers of the AWS Query protocol: a result, or a fault -> XML bytes. Pure.

Built as text by one function per shape, compiled on first use: an element tree costs ten times as much, and a
Describe* of many groups is what dashboards and waiters ask for all day. Called by the surfaces' dispatch.
Source: Smithy "AWS Query protocol"; botocore/parsers.py QueryParser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from cachekeep.codec.aws_model import Operation, Service, Shape
from cachekeep.domain.faults import Fault

# Returns the text between an element's tags.
Encoder = Callable[[object], str]

# What XML 1.0 does not allow at all (section 2.2), and what it allows only as a reference. A bare carriage return
# would be read as a line feed (section 2.11).
_ILLEGAL = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_SPECIAL = re.compile(f"[&<>\r{_ILLEGAL}]")
_REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}


class UnknownMember(KeyError):
    """A result names a member that the model does not have: a bug of the operation, never the caller's."""


def encode_response(service: Service, operation: Operation, result: Mapping[str, object], request_id: str) -> bytes:
    """Return the body of a successful answer.

    result: by the model's names; members that are None are left out. Datetimes must be aware.
    Raises UnknownMember (a KeyError) and TypeError for a result that does not fit the model.
    """
    name, wrapper = operation.name, operation.result_wrapper
    if operation.output is None:
        if result:
            raise UnknownMember(f"{name} has no result, not even {next(iter(result))}")
        body = ""
    else:
        body = _encoder(operation.output)(result)
        if wrapper is not None:
            body = f"<{wrapper}>{body}</{wrapper}>"
    return (
        f'<{name}Response xmlns="{service.namespace}">{body}<ResponseMetadata><RequestId>{_escape(request_id)}'
        f"</RequestId></ResponseMetadata></{name}Response>"
    ).encode()


def encode_fault(namespace: str, fault: Fault, request_id: str) -> bytes:
    """Return the body of a fault. `Receiver` says that the service is to blame, which SDKs take as leave to retry."""
    blame = "Receiver" if fault.status >= 500 else "Sender"
    return (
        f'<ErrorResponse xmlns="{_escape(namespace)}"><Error><Type>{blame}</Type><Code>{_escape(fault.code)}</Code>'
        f"<Message>{_escape(fault.message)}</Message></Error><RequestId>{_escape(request_id)}</RequestId></ErrorResponse>"
    ).encode()


def _escape(text: str) -> str:
    return _SPECIAL.sub(_replace, text) if _SPECIAL.search(text) else text


def _replace(found: re.Match[str]) -> str:
    return _REFERENCES.get(found[0], "\ufffd")


@cache
def _encoder(shape: Shape) -> Encoder:
    match shape.type:
        case "structure":
            return _structure(shape)
        case "list":
            return _list(shape)
        case "map":
            return _map(shape)
        case "boolean":
            return _boolean
        case "integer" | "long":
            return _integer
        case "float" | "double":
            return _number
        case "timestamp":
            return _timestamp
        case _:
            return _string


def _structure(shape: Shape) -> Encoder:
    members = {m.name: (f"<{m.wire}>", _encoder(m.shape), f"</{m.wire}>") for m in shape.members.values()}

    def encode(value: object) -> str:
        if not isinstance(value, Mapping):
            raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
        parts: list[str] = []
        for name, child in value.items():
            member = members.get(name)
            if member is None:
                raise UnknownMember(f"{shape.name} has no member {name}")
            if child is not None:
                start, encode_member, end = member
                parts += (start, encode_member(child), end)
        return "".join(parts)

    return encode


def _list(shape: Shape) -> Encoder:
    assert shape.item is not None  # noqa: S101 - Shape's rule for lists
    wire, encode_item = shape.item.wire, _encoder(shape.item.shape)
    start, between, end = f"<{wire}>", f"</{wire}><{wire}>", f"</{wire}>"
    # Columns of datapoints: nothing is looked at point by point that can be looked at once.
    column = _COLUMNS.get(shape.item.shape.type)

    def encode(value: object) -> str:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{shape.name} must be a list, not {type(value).__name__}")
        if column is not None and set(map(type, value)) == {column[0]}:
            return start + between.join(map(column[1], value)) + end
        return start + between.join([encode_item(item) for item in value]) + end if value else ""

    return encode


def _map(shape: Shape) -> Encoder:
    assert shape.item is not None  # noqa: S101 - Shape's rule for maps
    encode_item = _encoder(shape.item.shape)

    def encode(value: object) -> str:
        if not isinstance(value, Mapping):
            raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
        return "".join(
            f"<entry><key>{_string(name)}</key><value>{encode_item(item)}</value></entry>"
            for name, item in value.items()
        )

    return encode


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a string: {value!r}")
    return _escape(value)


def _boolean(value: object) -> str:
    if not isinstance(value, bool):
        raise TypeError(f"not a boolean: {value!r}")
    return "true" if value else "false"


def _integer(value: object) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"not an integer: {value!r}")
    return str(int(value))


def _number(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"not a number: {value!r}")
    return repr(float(value))


def _timestamp(value: object) -> str:
    """Milliseconds, always, as AWS sends them; what is finer is cut off. An int is in seconds since 1970."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _second(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError(f"not an aware datetime: {value!r}")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


@lru_cache(maxsize=4096)
def _second(value: int) -> str:
    """Remembered: in columns of datapoints the same few minutes come again and again."""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


_COLUMNS: Mapping[str, tuple[type, Callable[[Any], str]]] = {"double": (float, repr), "timestamp": (int, _second)}
