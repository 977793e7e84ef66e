"""Values as the seed's JSON files spell them, both ways. Pure; called by `seed_json`; see docs/formats/seed-json.md.

Python objects that `json` takes, no text: `seed_json` makes files of them.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

from cachekeep.codec.dump import (
    Consumer,
    HashValue,
    IllegalValue,
    ListValue,
    ModuleValue,
    Pending,
    SetValue,
    SortedSetValue,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
)

KEY_PREFIX, FIELD_PREFIX = "__b64_key__", "__b64_field__"
_INFINITIES = {math.inf: "inf", -math.inf: "-inf"}
_INFINITE_SCORES = {text: score for score, text in _INFINITIES.items()}
_63_BITS, _64_BITS = 1 << 63, 1 << 64
Json = Any  # what `json` reads and writes


class SpellingError(ValueError):
    """Not what the format has here. Says what was found."""


class NothingThere(SpellingError):
    """There is no value to be had: the key is to be skipped, for this reason."""


def spelled_name(name: bytes, prefix: str) -> str:
    """A key or field as the name of a member; prefix: KEY_PREFIX or FIELD_PREFIX."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and (not text.startswith(prefix) or read_name(text, prefix) == name):
        return text
    return prefix + base64.b64encode(name).decode()


def read_name(text: str, prefix: str) -> bytes:
    """The inverse. Raises SpellingError for half a surrogate pair, which is no text."""
    raw = _encoded(text)
    if not text.startswith(prefix):
        return raw
    try:
        name = base64.b64decode(text[len(prefix) :], validate=True)
    except (binascii.Error, ValueError):
        return raw
    try:
        # The script spells only what is no text so. A text is meant when it could be mistaken for such a name itself.
        return name if name.decode().startswith(prefix) else raw
    except UnicodeDecodeError:
        return name


def wrapped(data: bytes) -> Json:
    try:
        return {"_t": "str", "v": data.decode()}
    except UnicodeDecodeError:
        return {"_t": "b64", "v": base64.b64encode(data).decode()}


def unwrapped(wrapper: Json) -> bytes:
    match wrapper:
        case {"_t": "str", "v": str(text)}:
            return _encoded(text)
        case {"_t": "b64", "v": str(text)}:
            return unbase64(text)
        case None:
            raise NothingThere("it has no value (null)")
    raise SpellingError(f"no wrapped value: {_shown(wrapper)}")


def unbase64(text: Json) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise SpellingError(f"not base64: {_shown(text)}") from error


def members_of(value: Value) -> dict[str, Json]:
    """The members `type` and `value` of a key, and those of our own. `dump` is the caller's, for values of modules."""
    match value:
        case StringValue():
            return {"type": "string", "value": wrapped(value.data)}
        case ListValue():
            return {"type": "list", "value": [wrapped(item) for item in value.items]}
        case SetValue():
            return {"type": "set", "value": [wrapped(member) for member in value.members]}
        case SortedSetValue():
            items = [[wrapped(member), _INFINITIES.get(score, score)] for member, score in value.items]
            return {"type": "zset", "value": items}
        case HashValue():
            return _hash(value)
        case StreamValue():
            return _stream(value)
        case ModuleValue():
            return {"type": value.name, "value": None}


def value_of(entry: Mapping[str, Json]) -> Value:
    """The inverse. Raises NothingThere where there is nothing to be restored, SpellingError."""
    kind: Json = entry.get("type")
    value: Json = entry.get("value")
    if value is None:
        raise NothingThere(f"it has no value (null), and its type is {_shown(kind)}")
    if kind not in ("string", "list", "set", "zset", "hash", "stream"):
        raise NothingThere(f"its type is {_shown(kind)}, and it has no dump")
    if isinstance(value, dict) is not (kind in ("string", "hash")):
        raise NothingThere(f"its type is {kind}, and its value is of another type")
    if not value and kind != "stream":
        more = ": the seed's script reads every hash as empty" if kind == "hash" else ""
        raise NothingThere(f"a {kind} without elements does not exist{more}")
    try:
        match kind:
            case "string":
                return StringValue(unwrapped(value))
            case "list":
                return ListValue(tuple(map(unwrapped, value)))
            case "set":
                return SetValue(frozenset(map(unwrapped, value)))
            case "zset":
                return SortedSetValue(tuple({unwrapped(pair[0]): _score(pair[1]) for pair in value}.items()))
            case "hash":
                return _read_hash(entry, value)
            case _:
                return _read_stream(entry, value)
    except (IllegalValue, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise SpellingError(f"no {kind}: {error}") from error


def _hash(value: HashValue) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    expiries: dict[str, int] = {}
    for field, content, expire_ms in value.fields:
        name = spelled_name(field, FIELD_PREFIX)
        fields[name] = wrapped(content)
        if expire_ms is not None:
            expiries[name] = expire_ms
    members: dict[str, Json] = {"type": "hash", "value": fields}
    return members | {"field_expires_ms": expiries} if expiries else members


def _read_hash(entry: Mapping[str, Json], value: Mapping[str, Json]) -> HashValue:
    expiries = entry.get("field_expires_ms") or {}
    fields = {
        read_name(name, FIELD_PREFIX): (
            unwrapped(wrapper),
            moment(expiries[name], "field_expires_ms", least=0) if name in expiries else None,
        )
        for name, wrapper in value.items()
    }
    return HashValue(tuple((field, *rest) for field, rest in fields.items()))


def _score(score: Json) -> float:
    if isinstance(score, str) and score in _INFINITE_SCORES:
        return _INFINITE_SCORES[score]
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise SpellingError(f"not a score: {_shown(score)}")
    return float(score)


def _stream(value: StreamValue) -> dict[str, Json]:
    entries: list[Json] = []
    repeated: dict[str, Json] = {}
    for entry in value.entries:
        fields = {spelled_name(name, FIELD_PREFIX): wrapped(content) for name, content in entry.fields}
        entries.append([str(entry.id), fields])
        if len(fields) != len(entry.fields):
            repeated[str(entry.id)] = [[wrapped(name), wrapped(content)] for name, content in entry.fields]
    ours = {
        "last_id": str(value.last_id),
        "max_deleted_id": str(value.max_deleted_id),
        "entries_added": value.entries_added,
        "groups": [_group(group) for group in value.groups],
        "repeated": repeated,
    }
    return {"type": "stream", "value": entries, "stream": ours}


def _group(group: StreamGroup) -> Json:
    numbers = {consumer.name: number for number, consumer in enumerate(group.consumers)}
    return {
        "name": wrapped(group.name),
        "last_id": str(group.last_id),
        "entries_read": group.entries_read,
        "consumers": [
            {"name": wrapped(one.name), "seen_ms": one.seen_ms, "active_ms": one.active_ms} for one in group.consumers
        ],
        "pending": [
            [str(one.id), numbers[one.consumer], one.delivered_ms, one.delivery_count] for one in group.pending
        ],
    }


def _read_stream(entry: Mapping[str, Json], value: list[Json]) -> StreamValue:
    ours = entry.get("stream")
    repeated = ours.get("repeated", {}) if ours else {}
    entries = []
    for one_id, fields in value:
        if one_id in repeated:
            pairs = tuple((unwrapped(name), unwrapped(content)) for name, content in repeated[one_id])
        else:
            pairs = tuple((read_name(name, FIELD_PREFIX), unwrapped(content)) for name, content in fields.items())
        entries.append(StreamEntry(_id(one_id), pairs))
    last_id = entries[-1].id if entries else StreamId(0, 0)
    if not ours:
        return StreamValue(tuple(entries), last_id, StreamId(0, 0), len(entries), ())
    return StreamValue(
        tuple(entries),
        _id(ours["last_id"]),
        _id(ours["max_deleted_id"]),
        count(ours["entries_added"], "entries_added"),
        tuple(_read_group(group) for group in ours["groups"]),
    )


def _read_group(group: Mapping[str, Json]) -> StreamGroup:
    consumers = tuple(
        Consumer(
            unwrapped(one["name"]),
            moment(one["seen_ms"], "seen_ms"),
            None if one["active_ms"] is None else moment(one["active_ms"], "active_ms"),
        )
        for one in group["consumers"]
    )
    pending = tuple(
        Pending(
            _id(one_id),
            consumers[count(consumer, "consumer")].name,
            moment(delivered, "delivered_ms"),
            count(deliveries, "delivery_count"),
        )
        for one_id, consumer, delivered, deliveries in group["pending"]
    )
    read = None if group["entries_read"] is None else count(group["entries_read"], "entries_read")
    return StreamGroup(unwrapped(group["name"]), _id(group["last_id"]), read, tuple(sorted(pending)), consumers)


def _id(text: Json) -> StreamId:
    ms, dash, seq = text.partition("-") if isinstance(text, str) else ("", "", "")
    if not (dash and ms.isdecimal() and seq.isdecimal() and text.isascii() and len(text) <= 41):
        raise SpellingError(f"no id of a stream: {_shown(text)}")
    found = StreamId(int(ms), int(seq))
    if max(found) >= _64_BITS:
        raise SpellingError(f"no id of a stream: {text}")
    return found


def moment(found: Json, what: str, least: int = -_63_BITS) -> int:
    """Milliseconds, of 64 bits with a sign. Raises SpellingError."""
    return _whole(found, what, least, _63_BITS - 1)


def count(found: Json, what: str) -> int:
    """A number of 64 bits without sign. Raises SpellingError."""
    return _whole(found, what, 0, _64_BITS - 1)


def _whole(found: Json, what: str, least: int, most: int) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        raise SpellingError(f"{what} is no such number: {_shown(found)}")
    return found


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SpellingError(f"not text: {_shown(text)}") from error


def _shown(found: object) -> str:
    text = ascii(found)
    return text if len(text) <= 60 else text[:57] + "..."
