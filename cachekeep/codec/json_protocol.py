"""Requests and answers of AWS JSON 1.0 and 1.1, and the reading of typed values that RPC v2 CBOR shares with it. Pure.

A request is a POST whose header `X-Amz-Target` names the operation. Whatever the bytes are, nothing but a Fault is
raised. The faults say which field, as those of the Query protocol do. Called by api.wire.
Source: Smithy "AWS JSON 1.0 protocol", "awsQueryCompatible trait"; botocore/serialize.py JSONSerializer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache

import msgspec

from cachekeep.codec.aws_model import Service, Shape
from cachekeep.codec.query import (
    MAX_BODY_BYTES,
    MAX_LIST_INDEX,
    echo,
    integer_check,
    invalid,
    read_timestamp,
    string_reader,
)
from cachekeep.codec.xml import UnknownMember
from cachekeep.domain.faults import Fault, invalid_value, missing_parameter

# Checks a value that came typed; the second argument is its path, for messages.
Reader = Callable[[object, str], object]


def decode_json(shape: Shape | None, body: bytes) -> dict[str, object]:
    """The input of an operation, by the model's names, as codec.query gives it. Raises Fault."""
    if len(body) > MAX_BODY_BYTES:
        raise Fault("SerializationException", f"The request is longer than {MAX_BODY_BYTES} bytes.", 413)
    try:
        value: object = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Fault("SerializationException", "The request is not valid JSON.", 400) from None
    return read_input(shape, value)


def encode_json(shape: Shape | None, result: Mapping[str, object]) -> bytes:
    """The body of a successful answer. Timestamps: aware datetimes, or seconds since 1970.

    Raises UnknownMember and TypeError for a result that does not fit the model.
    """
    if shape is None:
        return b"{}"
    return msgspec.json.encode(_plain(shape, result))


def encode_json_fault(service: Service, fault: Fault) -> bytes:
    return msgspec.json.encode({"__type": fault_type(service, fault), "message": fault.message})


def fault_type(service: Service, fault: Fault) -> str:
    """The name of the fault's shape, as protocols after Query say it; the header of `query_error` tells the code."""
    if fault.code == "ValidationError":
        return "com.amazon.coral.validate#ValidationException"
    version = service.api_version.replace("-", "_")
    return f"com.amazonaws.{service.model}.v{version}#{service.fault_names.get(fault.code, fault.code)}"


def query_error(fault: Fault) -> str:
    """The value of `x-amzn-query-error`: what the fault's code was in the Query protocol, and who is to blame."""
    return f"{fault.code};{'Receiver' if fault.status >= 500 else 'Sender'}"


def _plain(shape: Shape, value: object) -> object:
    if shape.type == "structure":
        if not isinstance(value, Mapping):
            raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
        made = {}
        for name, child in value.items():
            member = shape.members.get(name)
            if member is None:
                raise UnknownMember(f"{shape.name} has no member {name}")
            if child is not None:
                made[name] = _plain(member.shape, child)
        return made
    if shape.type == "list" and shape.item is not None and isinstance(value, Sequence):
        item = shape.item.shape
        if item.type in ("double", "timestamp") and value and not isinstance(value[0], datetime):
            return list(value)
        return [_plain(item, child) for child in value]
    if shape.type == "timestamp" and isinstance(value, datetime):
        return value.timestamp()
    return value


def read_input(shape: Shape | None, value: object) -> dict[str, object]:
    """Check a typed value against the model: as codec.query does, but nothing has to be read from texts.

    Members that the model does not know are ignored. Raises Fault: MissingParameter, InvalidParameterValue.
    """
    if shape is None:
        return {}
    read = _reader(shape)(value, "")
    assert isinstance(read, dict)  # noqa: S101 - the input of an operation is a structure
    return read


@cache
def _reader(shape: Shape) -> Reader:
    match shape.type:
        case "structure":
            return _structure(shape)
        case "list":
            return _list(shape)
        case "boolean":
            return _boolean
        case "integer" | "long":
            return _integer(shape)
        case "float" | "double":
            return _number
        case "timestamp":
            return _timestamp
        case "map":
            return _map(shape)
        case _:
            return _string(shape)


def _structure(shape: Shape) -> Reader:
    members = {m.name: _reader(m.shape) for m in shape.members.values()}
    required = tuple(m.name for m in shape.members.values() if m.required)

    def read(value: object, path: str) -> dict[str, object]:
        if not isinstance(value, dict):
            raise invalid_value(f"Value for parameter {echo(path) or 'input'} is invalid. Must be a structure.")
        prefix = f"{path}." if path else ""
        found = {
            name: members[name](child, prefix + name)
            for name, child in value.items()
            if child is not None and name in members
        }
        for name in required:
            if name not in found:
                raise missing_parameter(echo(prefix + name))
        return found

    return read


def _list(shape: Shape) -> Reader:
    assert shape.item is not None  # noqa: S101 - Shape's rule for lists
    read_item = _reader(shape.item.shape)
    low, high = shape.minimum or 0, shape.maximum or MAX_LIST_INDEX

    def read(value: object, path: str) -> list[object]:
        if not isinstance(value, list):
            raise invalid_value(f"Value for parameter {echo(path)} is invalid. Must be a list.")
        if not low <= len(value) <= high:
            raise invalid_value(f"Parameter {echo(path)} is invalid. It must have {low} to {high} items.")
        return [read_item(item, f"{path}.member.{number}") for number, item in enumerate(value, 1)]

    return read


def _map(shape: Shape) -> Reader:
    assert shape.item is not None  # noqa: S101 - Shape's rule for maps
    read_item = _reader(shape.item.shape)

    def read(value: object, path: str) -> dict[str, object]:
        if not isinstance(value, dict) or len(value) > MAX_LIST_INDEX:
            raise invalid_value(f"Value for parameter {echo(path)} is invalid. Must be a map.")
        return {str(name): read_item(item, f"{path}.{name}") for name, item in value.items()}

    return read


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid(value, path, "Must be true or false.")
    return value


def _integer(shape: Shape) -> Reader:
    check = integer_check(shape)

    def read(value: object, path: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _invalid(value, path, "Must be an integer.")
        return check(value, path)

    return read


def _number(value: object, path: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer of hundreds of digits
        pass
    raise _invalid(value, path, "Must be a number.")


def _timestamp(value: object, path: str) -> datetime:
    """Seconds since 1970 in JSON, a time already in CBOR; also a text in ISO 8601, which some clients send."""
    try:
        if isinstance(value, datetime):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            return read_timestamp(value, path)
    except (ValueError, OverflowError, OSError):
        pass
    raise _invalid(value, path, "Must be a timestamp.")


def _string(shape: Shape) -> Reader:
    check = string_reader(shape)

    def read(value: object, path: str) -> str:
        if not isinstance(value, str):
            raise _invalid(value, path, "Must be a string.")
        return check(value, path)

    return read


def _invalid(value: object, path: str, rule: str) -> Fault:
    shown = str(value) if isinstance(value, str | int | float | bool) and len(str(value)[:99]) < 99 else "..."
    return invalid(shown, path, rule)
