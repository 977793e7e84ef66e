"""From a command line to the fields of a request: `ModifyReplicationGroup`, or as the AWS CLI spells it.

Names are those of the service's model; what the values mean is for the service to check. Pure.
Sources: AWS CLI user guide, "Shorthand syntax"; codec.query for the form of the fields.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachekeep.cli.refusal import Refused
from cachekeep.codec.aws_model import Member, Operation, Shape, load_service

# Options of the AWS CLI that concern the program, not the request: how many words follow each.
_OF_THE_PROGRAM = {
    "--output": 1, "--query": 1, "--profile": 1, "--endpoint-url": 1, "--cli-read-timeout": 1,
    "--cli-connect-timeout": 1, "--ca-bundle": 1, "--color": 1, "--no-cli-pager": 0, "--no-verify-ssl": 0,
    "--no-paginate": 0, "--debug": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """An operation and the fields that go with it."""

    operation: str
    fields: Mapping[str, str]


def read(words: Sequence[str], params: Sequence[str] = ()) -> Wish:
    """words: the operation, and options as the AWS CLI has them. params: `Name=Value`. Raises Refused."""
    if any("\ud800" <= c <= "\udfff" for text in (*words, *params) for c in text):
        raise Refused("the command line holds bytes that are not UTF-8")
    rest = list(words)
    for word in ("aws", "elasticache"):
        if rest[:1] == [word]:
            del rest[0]
    if not rest or rest[0].startswith("-"):
        raise Refused("name an operation first, such as modify-replication-group or ModifyReplicationGroup")
    operation = _operation(rest[0])
    members = operation.input.members if operation.input else {}
    fields: dict[str, str] = {}
    for member, values in [*_options(operation, members, rest[1:]), *_params(operation, members, params)]:
        if any(key == member.wire or key.startswith(member.wire + ".") for key in fields):
            raise Refused(f"{member.name} is given twice")
        fields |= _fields(member.wire, member.shape, _value(member, values))
    return Wish(operation.name, fields)


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _operation(text: str) -> Operation:
    operations = {_plain(name): operation for name, operation in load_service("elasticache").operations.items()}
    found = operations.get(_plain(text))
    if found is None:
        near = difflib.get_close_matches(_plain(text), operations, 3)
        hint = f"; did you mean {' or '.join(operations[n].name for n in near)}?" if near else ""
        raise Refused(f"ElastiCache has no operation {text[:60]!r}{hint}")
    return found


def _member(operation: Operation, members: Mapping[str, Member], text: str) -> Member:
    by_name = {_plain(name): member for name, member in members.items()}
    found = by_name.get(_plain(text))
    if found is None:
        near = difflib.get_close_matches(_plain(text), by_name, 3)
        hint = f"; did you mean {' or '.join(by_name[n].name for n in near)}?" if near else ""
        raise Refused(f"{operation.name} has no parameter {text[:60]!r}{hint}")
    return found


def _options(operation: Operation, members: Mapping[str, Member], words: list[str]) -> list[tuple[Member, list[str]]]:
    """Each option with the words that follow it."""
    found: list[tuple[Member, list[str]]] = []
    skip = 0
    for word in words:
        if skip:
            skip -= 1
            continue
        name, equals, value = word.partition("=")
        if name in _OF_THE_PROGRAM:
            skip = 0 if equals else _OF_THE_PROGRAM[name]
        elif word.startswith("--"):
            found.append(_option(operation, members, name[2:], [value] if equals else []))
        elif found:
            found[-1][1].append(word)
        else:
            raise Refused(f"{word[:60]!r} stands where an option such as --replication-group-id should")
    return found


def _option(
    operation: Operation, members: Mapping[str, Member], name: str, values: list[str]
) -> tuple[Member, list[str]]:
    plain = {_plain(member) for member in members}
    if name.startswith("no-") and _plain(name) not in plain and _plain(name[3:]) in plain:
        member = _member(operation, members, name[3:])
        if member.shape.type == "boolean":
            return member, ["false"]
    return _member(operation, members, name), values


def _params(
    operation: Operation, members: Mapping[str, Member], params: Sequence[str]
) -> list[tuple[Member, list[str]]]:
    found = []
    for param in params:
        name, equals, value = param.partition("=")
        if not equals:
            raise Refused(f"--param takes Name=Value, not {param[:60]!r}")
        member = _member(operation, members, name)
        several = member.shape.item is not None and member.shape.item.shape.type != "structure"
        found.append((member, value.split(",") if several and not value.startswith("[") else [value]))
    return found


_Value = str | list["_Value"] | dict[str, "_Value"]


def _value(member: Member, words: list[str]) -> _Value:
    """The value that the words make for a member of that shape."""
    shape = member.shape
    if shape.type == "list" and shape.item is not None:
        if not words:
            raise Refused(f"{member.name} needs a value")
        if words[0].lstrip().startswith("["):
            return _from_json(member, " ".join(words))
        return [_one(member, shape.item.shape, word) for word in words]
    if shape.type == "boolean" and not words:
        return "true"
    if len(words) != 1:
        raise Refused(f"{member.name} takes one value, and {len(words)} are given")
    return _one(member, shape, words[0])


def _one(member: Member, shape: Shape, word: str) -> _Value:
    if shape.type == "structure":
        return _from_json(member, word) if word.lstrip().startswith("{") else _shorthand(member, shape, word)
    return word


def _from_json(member: Member, text: str) -> _Value:
    try:
        value: _Value = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise Refused(f"{member.name} is no JSON: {error}") from None
    return value


def _shorthand(member: Member, shape: Shape, text: str) -> _Value:
    """`NodeGroupId=0001,NewReplicaCount=2,PreferredAvailabilityZones=a,b`."""
    found: dict[str, list[str]] = {}
    last = ""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            last = name.strip()
            found[last] = [value.strip().removeprefix("[").removesuffix("]")]
        elif last:
            found[last].append(part.strip().removesuffix("]"))
        else:
            raise Refused(f"{member.name} takes JSON, or Name=Value,Name=Value, not {text[:60]!r}")
    made: dict[str, _Value] = {}
    for name, values in found.items():
        inner = shape.members.get(name)
        if inner is None:
            raise Refused(f"{member.name} has no {name[:60]!r}; it has {', '.join(shape.members)}")
        made[name] = list[_Value](values) if inner.shape.type == "list" else ",".join(values)
    return made


def _fields(path: str, shape: Shape, value: _Value | bool | None) -> dict[str, str]:
    """The value as fields of the Query protocol."""
    match value:
        case None:
            return {}
        case bool():
            return {path: str(value).lower()}
        case list() if shape.item is not None:
            numbered = enumerate(value, 1)
            inner = [_fields(f"{path}.{shape.item.wire}.{n}", shape.item.shape, item) for n, item in numbered]
            return {key: text for fields in inner for key, text in fields.items()}
        case dict() if shape.type == "structure":
            fields: dict[str, str] = {}
            for name, item in value.items():
                if name not in shape.members:
                    raise Refused(f"{path} has no {name[:60]!r}; it has {', '.join(shape.members)}")
                fields |= _fields(f"{path}.{shape.members[name].wire}", shape.members[name].shape, item)
            return fields
        case str() if shape.type not in ("list", "structure"):
            return {path: value}
        case _:
            raise Refused(f"{path} should be a {shape.type}, not {json.dumps(value)[:60]}")
