"""Requests and answers of Smithy's RPC v2 CBOR, which current SDKs choose for CloudWatch. Pure.

A request is a POST to `/service/TARGET/operation/NAME` with the header `smithy-protocol: rpc-v2-cbor`; answers carry
the same header. Called by api.cloudwatch.
Source: Smithy "RPC v2 CBOR protocol"; botocore/serialize.py RpcV2CBORSerializer, parsers.py RpcV2CBORParser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Final

from cachekeep.codec import cbor
from cachekeep.codec.aws_model import Service, Shape
from cachekeep.codec.json_protocol import fault_type, read_input
from cachekeep.codec.query import MAX_BODY_BYTES
from cachekeep.codec.xml import UnknownMember
from cachekeep.domain.faults import Fault

CONTENT_TYPE: Final = "application/cbor"
PROTOCOL: Final = "rpc-v2-cbor"

Encoder = Callable[[object], bytes]


def operation_of(service: Service, path: str) -> str | None:
    """The operation that a URL's path names; None for another path."""
    before = f"/service/{service.target}/operation/"
    return path.removeprefix(before) if path.startswith(before) else None


def decode_cbor(shape: Shape | None, body: bytes) -> dict[str, object]:
    """The input of an operation, by the model's names, as codec.query gives it. Raises Fault."""
    if len(body) > MAX_BODY_BYTES:
        raise Fault("SerializationException", f"The request is longer than {MAX_BODY_BYTES} bytes.", 413)
    try:
        value = cbor.decode(body) if body else {}
    except cbor.Malformed as error:
        raise Fault("SerializationException", f"The request is not valid CBOR: {error}.", 400) from None
    return read_input(shape, value)


def encode_cbor(shape: Shape | None, result: Mapping[str, object]) -> bytes:
    """The body of a successful answer. Timestamps: aware datetimes, or whole seconds since 1970.

    Raises UnknownMember and TypeError for a result that does not fit the model.
    """
    return b"\xa0" if shape is None else _encoder(shape)(result)


def encode_cbor_fault(service: Service, fault: Fault) -> bytes:
    return cbor.encode({"__type": fault_type(service, fault), "message": fault.message})


@cache
def _encoder(shape: Shape) -> Encoder:
    match shape.type:
        case "structure":
            return _structure(shape)
        case "list":
            return _list(shape)
        case "map":
            return _map(shape)
        case "float" | "double":
            return _number
        case "timestamp":
            return _timestamp
        case _:
            return cbor.encode


def _structure(shape: Shape) -> Encoder:
    members = {m.name: (cbor.encode(m.name), _encoder(m.shape)) for m in shape.members.values()}

    def encode(value: object) -> bytes:
        if not isinstance(value, Mapping):
            raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
        parts: list[bytes] = []
        for name, child in value.items():
            member = members.get(name)
            if member is None:
                raise UnknownMember(f"{shape.name} has no member {name}")
            if child is not None:
                parts += (member[0], member[1](child))
        return cbor.head(5, len(parts) // 2) + b"".join(parts)

    return encode


def _list(shape: Shape) -> Encoder:
    assert shape.item is not None  # noqa: S101 - Shape's rule for lists
    kind, encode_item = shape.item.shape.type, _encoder(shape.item.shape)

    def encode(value: object) -> bytes:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(f"{shape.name} must be a list, not {type(value).__name__}")
        if kind == "double":
            return cbor.doubles(value)
        if kind == "timestamp" and value and not isinstance(value[0], datetime):
            return cbor.times(value)
        return cbor.head(4, len(value)) + b"".join([encode_item(item) for item in value])

    return encode


def _map(shape: Shape) -> Encoder:
    assert shape.item is not None  # noqa: S101 - Shape's rule for maps
    encode_item = _encoder(shape.item.shape)

    def encode(value: object) -> bytes:
        if not isinstance(value, Mapping):
            raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
        return cbor.head(5, len(value)) + b"".join(cbor.encode(k) + encode_item(v) for k, v in value.items())

    return encode


def _number(value: object) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    return cbor.encode(float(value))


def _timestamp(value: object) -> bytes:
    if isinstance(value, datetime):
        return cbor.time(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"not a timestamp: {value!r}")
    return b"\xc1" + cbor.encode(value)
