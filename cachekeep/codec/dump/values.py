"""The values that DUMP can hold, free of how a server happens to encode them. Frozen; illegal ones cannot be built.

`==` between them is stricter than their meaning (the order of a hash's fields); `canonical.canonical` is the meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


class IllegalValue(ValueError):
    """No server can hold this: an empty collection, a name that stands twice, a score that is not a number."""


class StreamId(NamedTuple):
    """The id of a stream's entry: milliseconds and a sequence number, each of 64 bits without sign."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    def __bytes__(self) -> bytes:
        return b"%d-%d" % self


ZERO_ID = StreamId(0, 0)


class StreamEntry(NamedTuple):
    """An entry that is not deleted. Field names may repeat, and their order counts."""

    id: StreamId
    fields: tuple[tuple[bytes, bytes], ...]


class Pending(NamedTuple):
    """An entry delivered to a consumer and not acknowledged; the entry itself may be deleted meanwhile."""

    id: StreamId
    consumer: bytes
    delivered_ms: int
    delivery_count: int


class Consumer(NamedTuple):
    """A consumer, whether or not it has pending entries. active_ms is None before 7.2 and when it never read."""

    name: bytes
    seen_ms: int
    active_ms: int | None


@dataclass(frozen=True, slots=True)
class StreamGroup:
    """A consumer group. entries_read is None where the server does not know it. pending: in order of id."""

    name: bytes
    last_id: StreamId
    entries_read: int | None
    pending: tuple[Pending, ...]
    consumers: tuple[Consumer, ...]

    def __post_init__(self) -> None:
        names = {consumer.name for consumer in self.consumers}
        _require_unique(len(names), self.consumers, "consumer")
        _require_unique(len({entry.id for entry in self.pending}), self.pending, "pending entry")
        if any(entry.consumer not in names for entry in self.pending):
            raise IllegalValue("a pending entry of a stream has no consumer")


@dataclass(frozen=True, slots=True)
class StringValue:
    data: bytes


@dataclass(frozen=True, slots=True)
class ListValue:
    items: tuple[bytes, ...]

    def __post_init__(self) -> None:
        _require_some(self.items, "list")


@dataclass(frozen=True, slots=True)
class SetValue:
    members: frozenset[bytes]

    def __post_init__(self) -> None:
        _require_some(self.members, "set")


@dataclass(frozen=True, slots=True)
class SortedSetValue:
    """items: (member, score)."""

    items: tuple[tuple[bytes, float], ...]

    def __post_init__(self) -> None:
        _require_some(self.items, "sorted set")
        _require_unique(len({member for member, _ in self.items}), self.items, "member of a sorted set")
        if any(math.isnan(score) for _, score in self.items):
            raise IllegalValue("a score of a sorted set is not a number")


@dataclass(frozen=True, slots=True)
class HashValue:
    """fields: (field, value, the moment it expires in ms since 1970 or None). An expired one may still be there."""

    fields: tuple[tuple[bytes, bytes, int | None], ...]

    def __post_init__(self) -> None:
        _require_some(self.fields, "hash")
        _require_unique(len({field for field, _, _ in self.fields}), self.fields, "field of a hash")


@dataclass(frozen=True, slots=True)
class StreamValue:
    """entries_added, max_deleted_id and entries_read of groups are what 7.0 derives where the payload is older."""

    entries: tuple[StreamEntry, ...]
    last_id: StreamId
    max_deleted_id: StreamId
    entries_added: int
    groups: tuple[StreamGroup, ...]

    def __post_init__(self) -> None:
        _require_unique(len({group.name for group in self.groups}), self.groups, "group of a stream")
        before = None
        for entry in self.entries:
            if before is not None and entry.id <= before:
                raise IllegalValue(f"the entries of a stream are not in order at {entry.id}")
            before = entry.id
        if before is not None and before > self.last_id:
            raise IllegalValue(f"a stream's last id {self.last_id} is below its entry {before}")

    @property
    def first_id(self) -> StreamId:
        """The id of the first entry, 0-0 where there is none."""
        return self.entries[0].id if self.entries else ZERO_ID

    @property
    def ghosts(self) -> list[StreamId]:
        """The ids, in order, that are pending in some group while their entry is gone."""
        pending = {one.id for group in self.groups for one in group.pending}
        return sorted(pending.difference(entry.id for entry in self.entries))

    @property
    def proved_deleted_id(self) -> StreamId:
        """max_deleted_id, or a higher ghost between entries: a stream that was made before 7.0 does not count that.

        A ghost below all entries proves nothing: XTRIM removes from the start, and is not counted as deletion.
        """
        first_id, highest = self.first_id, max(self.ghosts, default=ZERO_ID)
        return max(self.max_deleted_id, highest) if self.entries and highest > first_id else self.max_deleted_id


@dataclass(frozen=True, slots=True)
class ModuleValue:
    """A value of a module, opaque. parts: (opcode, value) as the module saved them; floats as their raw bytes.

    id holds the type's name (9 characters of 6 bits) and its encoding version (10 bits).
    """

    id: int
    parts: tuple[tuple[int, int | bytes], ...]

    @property
    def name(self) -> str:
        """The module type's name, such as `ReJSON-RL`."""
        return "".join(_NAME_CHARACTERS[self.id >> shift & 63] for shift in range(58, 9, -6))

    @property
    def encoding_version(self) -> int:
        return self.id & 1023


Value = StringValue | ListValue | SetValue | SortedSetValue | HashValue | StreamValue | ModuleValue

_NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # src/module.c


def _require_some(items: tuple[object, ...] | frozenset[bytes], kind: str) -> None:
    if not items:
        raise IllegalValue(f"a {kind} without elements does not exist")


def _require_unique(distinct: int, items: tuple[object, ...], what: str) -> None:
    if distinct != len(items):
        raise IllegalValue(f"a {what} stands twice")
