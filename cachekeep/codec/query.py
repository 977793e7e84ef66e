"""Requests of the AWS Query protocol: form bytes -> fields -> an operation and its input. Pure.

A request is a form: `Action`, `Version`, and one field for each scalar of the input, whose name is its path
(`Tags.Tag.1.Key`). Decoding checks what the service model says; what an operation demands beyond the model is the
operation's business. Whatever the bytes are, nothing but a Fault is raised. Called by the surfaces' dispatch.
Source: Smithy "AWS Query protocol"; botocore/serialize.py QuerySerializer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from cachekeep.codec.aws_model import Operation, Service, Shape
from cachekeep.domain.faults import Fault, invalid_value, missing_parameter

MAX_BODY_BYTES: Final = 1 << 20
MAX_FIELDS: Final = 5000
MAX_LIST_INDEX: Final = 1000
# The deepest path of the models has 9 parts; unknown fields may be deeper, but not without end.
_MAX_PATH_PARTS: Final = 16
_MAX_ECHO: Final = 100

_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_INDEX = re.compile(r"[1-9][0-9]{0,3}")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)


# A request's fields as a tree: a value, or the parts that may follow a dot.
Node: TypeAlias = "str | dict[str, Node]"
# Turns the node of a field into a value; the second argument is the field's path, for messages.
Decoder = Callable[[Node, str], object]


def parse_form(body: bytes, max_fields: int = MAX_FIELDS, max_bytes: int = MAX_BODY_BYTES) -> dict[str, str]:
    """Read an `application/x-www-form-urlencoded` body, or a URL's query, into its fields.

    Raises Fault MalformedQueryString (400) on anything that could be read in two ways: bad percent-encoding, bytes
    that are not UTF-8, NUL, a field given twice, a field without a name; and on more than the limits allow.
    """
    if len(body) > max_bytes:
        raise _malformed(f"The request is longer than {max_bytes} bytes.")
    if body.count(b"&") >= max_fields:
        raise _malformed(f"The request has more than {max_fields} fields.")
    if _BAD_PERCENT.search(body):
        raise _malformed("A percent sign must be followed by two hexadecimal digits.")
    fields: dict[str, str] = {}
    for pair in body.split(b"&"):
        if not pair:
            continue  # `a=1&` and `a=1&&b=2` can only be read in one way
        raw_key, _, raw_value = pair.partition(b"=")
        key = _unquote(raw_key)
        if not key:
            raise _malformed("A field has no name.")
        if key in fields:
            raise _malformed(f"The field {echo(key)} is given more than once.")
        fields[key] = _unquote(raw_value)
    return fields


def _unquote(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("The request is not valid UTF-8.") from None
    if "\0" in text:
        raise _malformed("The request holds a NUL character.")
    return text


def decode_request(service: Service, fields: Mapping[str, str]) -> tuple[Operation, dict[str, object]]:
    """Return the operation that the fields ask for and its input, checked against the model.

    The input holds what was given, by the model's names: str, bool, int, float, datetime (aware, UTC), list, dict.
    Fields that the model does not know are ignored, as AWS does. Raises Fault: MissingAction, InvalidAction,
    MissingParameter, InvalidParameterValue.
    """
    operation = _operation(service, fields)
    if operation.input is None:
        return operation, {}
    decode, wires = _input_decoder(operation.input)
    value = decode(_tree(fields, wires), "")
    assert isinstance(value, dict)  # noqa: S101 - the input of an operation is a structure
    return operation, value


def _operation(service: Service, fields: Mapping[str, str]) -> Operation:
    action = fields.get("Action")
    if not action:
        raise Fault("MissingAction", "The request is missing an action or a required parameter.", 400)
    version = fields.get("Version") or "NO_VERSION_SPECIFIED"
    operation = service.operations.get(action)
    if operation is None or version != service.api_version:
        raise Fault("InvalidAction", f"Could not find operation {echo(action)} for version {echo(version)}", 400)
    return operation


def _tree(fields: Mapping[str, str], known: frozenset[str]) -> dict[str, Node]:
    """Hang the fields whose first part is known into a tree along their dots."""
    root: dict[str, Node] = {}
    for key, value in fields.items():
        first, dot, rest = key.partition(".")
        if first not in known:
            continue
        parts = rest.split(".", _MAX_PATH_PARTS) if dot else []
        if len(parts) >= _MAX_PATH_PARTS:
            raise _malformed(f"The field {echo(key)} is nested too deeply.")
        node, last = root, first
        for part in parts:
            child = node.setdefault(last, {})
            if isinstance(child, str):
                raise _both(key)
            node, last = child, part
        if last in node:
            raise _both(key)
        node[last] = value
    return root


@cache
def _input_decoder(shape: Shape) -> tuple[Decoder, frozenset[str]]:
    return _decoder(shape), frozenset(member.wire for member in shape.members.values())


@cache
def _decoder(shape: Shape) -> Decoder:
    """Compile the shape into a function, so that a request pays for its own fields only, not for the model's."""
    match shape.type:
        case "structure":
            return _structure(shape)
        case "list":
            return _list(shape)
        case "boolean":
            return _scalar(_boolean)
        case "integer" | "long":
            return _scalar(_integer(shape))
        case "float" | "double":
            return _scalar(_number)
        case "timestamp":
            return _scalar(read_timestamp)
        case _:
            return _scalar(string_reader(shape))


def _structure(shape: Shape) -> Decoder:
    members = {m.wire: (m.name, _decoder(m.shape)) for m in shape.members.values()}
    required = tuple((m.wire, m.name) for m in shape.members.values() if m.required)

    def decode(node: Node, path: str) -> dict[str, object]:
        if isinstance(node, str):
            if node:
                raise invalid_value(f"Value for parameter {echo(path)} is invalid. Must be a structure.")
            node = {}
        prefix = f"{path}." if path else ""
        value: dict[str, object] = {}
        for wire, child in node.items():
            member = members.get(wire)
            if member is not None:
                name, decode_member = member
                value[name] = decode_member(child, prefix + wire)
        for wire, name in required:
            if name not in value:
                raise missing_parameter(echo(prefix + wire))
        return value

    return decode


def _list(shape: Shape) -> Decoder:
    assert shape.item is not None  # noqa: S101 - Shape's rule for lists
    item_name, decode_item = shape.item.wire, _decoder(shape.item.shape)
    low, high = shape.minimum or 0, shape.maximum or MAX_LIST_INDEX

    def decode(node: Node, path: str) -> list[object]:
        # An empty list is sent as `Tags=`, and so is nothing else.
        if isinstance(node, str):
            if node:
                raise invalid_value(f"Value for parameter {echo(path)} is invalid. Must be a list.")
            node = {item_name: {}}
        name, by_index = _indexes(node, item_name, path)
        items = [decode_item(by_index[index], f"{path}.{name}.{index}") for index in sorted(by_index)]
        if not low <= len(items) <= high:
            raise invalid_value(
                f"Parameter {echo(path)} is invalid. The number of its items must be {_bounds(low, high)}."
            )
        return items

    return decode


def _indexes(node: dict[str, Node], item_name: str, path: str) -> tuple[str, dict[int, Node]]:
    """Return the items by their number. `member` is understood beside the model's name: old clients send it.

    An item under any other name is refused, not ignored: nobody means to send a list that is then left out.
    """
    if len(node) != 1:
        raise invalid_value(f"Parameter {echo(path)} is invalid. Its items must be named {item_name}.")
    name, items = next(iter(node.items()))
    if name not in (item_name, "member") or isinstance(items, str):
        raise invalid_value(f"Parameter {echo(path)} is invalid. Its items must be named {item_name}.N.")
    by_index: dict[int, Node] = {}
    for text, item in items.items():
        if not _INDEX.fullmatch(text) or int(text) > MAX_LIST_INDEX:
            raise invalid_value(
                f"Parameter {echo(f'{path}.{name}.{text}')} is invalid. "
                f"The number of an item must be between 1 and {MAX_LIST_INDEX}."
            )
        by_index[int(text)] = item
    return name, by_index


def _scalar(read: Callable[[str, str], object]) -> Decoder:
    def decode(node: Node, path: str) -> object:
        if not isinstance(node, str):
            raise invalid_value(f"Value for parameter {echo(path)} is invalid. Must be a single value.")
        return read(node, path)

    return decode


def _boolean(text: str, path: str) -> bool:
    lower = text.lower()
    if lower not in ("true", "false"):
        raise invalid(text, path, "Must be true or false.")
    return lower == "true"


def _integer(shape: Shape) -> Callable[[str, str], int]:
    check = integer_check(shape)

    def read(text: str, path: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise invalid(text, path, "Must be an integer.")
        return check(int(text), path)

    return read


def integer_check(shape: Shape) -> Callable[[int, str], int]:
    """Of an integer or long: the value itself, where it is within the model's bounds and those of the type."""
    bits = 31 if shape.type == "integer" else 63
    low = shape.minimum if shape.minimum is not None else -(1 << bits)
    high = shape.maximum if shape.maximum is not None else (1 << bits) - 1

    def check(value: int, path: str) -> int:
        if not low <= value <= high:
            raise invalid(str(value), path, f"Must be {_bounds(low, high)}.")
        return value

    return check


def _number(text: str, path: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else float("inf")
    if abs(value) == float("inf"):
        raise invalid(text, path, "Must be a number.")
    return value


def read_timestamp(text: str, path: str) -> datetime:
    """A time without a zone is taken for UTC, as AWS does."""
    try:
        if not _TIMESTAMP.fullmatch(text):
            raise ValueError(text)
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(text, path, "Must be a timestamp in ISO 8601 format.") from None


def string_reader(shape: Shape) -> Callable[[str, str], str]:
    low, high, pattern = shape.minimum or 0, shape.maximum, shape.pattern
    enum = frozenset(shape.enum)

    def read(text: str, path: str) -> str:
        if enum and text not in enum:
            raise invalid(text, path, f"Must be one of: {', '.join(shape.enum)}.")
        if len(text) < low or (high is not None and len(text) > high):
            raise invalid(text, path, f"Its length must be {_bounds(low, high)}.")
        if pattern is not None and not pattern.fullmatch(text):
            raise invalid(text, path, f"Must match the pattern {pattern.pattern}.")
        return text

    return read


def _bounds(low: float, high: float | None) -> str:
    return f"at least {low}" if high is None else f"between {low} and {high}"


def echo(text: str) -> str:
    """A caller's text in a message: short enough to log."""
    return text if len(text) <= _MAX_ECHO else text[:_MAX_ECHO] + "..."


def invalid(text: str, path: str, rule: str) -> Fault:
    return invalid_value(f"Value ({echo(text)}) for parameter {echo(path)} is invalid. {rule}")


def _both(key: str) -> Fault:
    return invalid_value(f"Parameter {echo(key)} is invalid. It cannot have both a value and parts.")


def _malformed(message: str) -> Fault:
    return Fault("MalformedQueryString", message, 400)
