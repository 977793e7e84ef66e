"""Ranges of the 16384 slots of cluster mode, and how they are divided. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

SLOTS = 16384


@dataclass(frozen=True, order=True)
class SlotRange:
    """first to last, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last < SLOTS:
            raise ValueError(f"not a range of slots: {self.first}-{self.last}")

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.last > self.first else str(self.first)


Slots = tuple[SlotRange, ...]


def parse_slots(text: str) -> Slots:
    """Read `0-100,200,300-400`, in any order. Raises ValueError for anything else, and for slots named twice."""
    found = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first) > 5 or len(last) > 5:
            raise ValueError(f"not a range of slots: {part[:40]!r}")
        found.append(SlotRange(int(first), int(last) if dash else int(first)))
    numbers = [slot for span in found for slot in range(span.first, span.last + 1)]
    if len(numbers) != len(set(numbers)):
        raise ValueError(f"names slots twice: {text[:80]!r}")
    return ranges_of(numbers)


def slots_text(slots: Slots) -> str:
    """`0-100,200`, as DescribeReplicationGroups shows it."""
    return ",".join(map(str, slots))


def numbers_of(slots: Slots) -> frozenset[int]:
    """Every slot of the ranges."""
    return frozenset(slot for span in slots for slot in range(span.first, span.last + 1))


def ranges_of(numbers: Iterable[int]) -> Slots:
    """As few ranges as possible, in order."""
    ordered = sorted(set(numbers))
    spans: list[SlotRange] = []
    start = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
            spans.append(SlotRange(ordered[start], ordered[at - 1]))
            start = at
    return tuple(spans)


def count_of(slots: Slots) -> int:
    return sum(span.last - span.first + 1 for span in slots)


def divided(parts: int) -> tuple[Slots, ...]:
    """All slots in `parts` ranges of nearly equal size, as ElastiCache divides them: 0-5460, 5461-10922, ..."""
    edges = [SLOTS * n // parts for n in range(parts + 1)]
    return tuple((SlotRange(low, high - 1),) for low, high in pairwise(edges))
