"""What a compaction keeps and how it is cut into segments, from entries alone. Pure. Called by backup.compact.

Segments are joined while the moments that they cover touch: a segment covers one stretch, so a gap begins a new one,
and the passes of a source that was polled stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.catalog_objects import Entry, KindName
from cachekeep.backup.coverage import Stretch, nearest, stretches

SEGMENT_BYTES = 64 << 20
MOMENTS = 8
SEVERAL_LANES = "all"
# As few segments as this share of those that there are, or it is not worth the reading.
_WORTH = 0.5


@dataclass
class Group:
    """Entries that become one segment. covers: of all of them, from the first kept moment on."""

    kind: KindName
    entries: list[Entry] = field(default_factory=list)
    covers: tuple[int, int] | None = None

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)

    @property
    def lane(self) -> str:
        lanes = {entry.lane for entry in self.entries}
        return lanes.pop() if len(lanes) == 1 else SEVERAL_LANES

    @property
    def position(self) -> str | None:
        return next((entry.position for entry in reversed(self.entries) if entry.position), None)


@dataclass(frozen=True)
class Plan:
    """since_ms: the first kept moment. kept: what is covered from there on. moments: where both are to be compared.

    streamed: the engine's own file and commands; these stay from their beginning. All in ms by the source's clock.
    """

    since_ms: int
    kept: tuple[Stretch, ...]
    groups: tuple[Group, ...]
    moments: tuple[int, ...]
    streamed: bool
    worth: bool

    @property
    def until_ms(self) -> int:
        return self.kept[-1].until_ms


def plan_of(name: str, entries: Sequence[Entry], before_ms: int | None) -> Plan:
    """before_ms: moments before it are given up, by the source's clock; None: none are, nor ever of a streamed one.

    Where before_ms is not covered, the next moment that is becomes the first; where there is none, the last one.
    Raises CatalogError(STATE): nothing is covered.
    """
    found = stretches(entries)
    if not found:
        raise CatalogError(
            CatalogFault.STATE, f"{name} covers no moment: there is nothing to keep of it", "`backup expire` removes it"
        )
    streamed = any(entry.kind in ("rdb", "commands") for entry in entries)
    since_ms = found[0].since_ms
    if before_ms is not None and not streamed and before_ms > since_ms:
        after = nearest(found, before_ms)[1]
        since_ms = found[-1].until_ms if after is None else after
    groups = stream_groups(entries) if streamed else key_groups(entries, since_ms)
    kept = clipped(found, since_ms)
    had, has = (len([one for one in entries if one.kind in ("changes", "commands")]), _joined(groups))
    worth = since_ms > found[0].since_ms or (had > 1 and has <= had * _WORTH)
    return Plan(since_ms, tuple(kept), tuple(groups), tuple(moments_of(kept)), streamed, worth)


def clipped(found: Iterable[Stretch], since_ms: int) -> list[Stretch]:
    return [Stretch(max(one.since_ms, since_ms), one.until_ms, one.entry) for one in found if one.until_ms >= since_ms]


def key_groups(entries: Iterable[Entry], since_ms: int) -> list[Group]:
    """Of changes and functions; what they say of moments up to since_ms is in the new base."""
    groups: list[Group] = []
    before_ms = -1  # what entries before cover; see backup.compact_read
    for entry in entries:
        covers = _clipped(entry.covers, since_ms)
        late = entry.kind in ("changes", "functions") and entry.last_ms is not None
        if covers or (late and max(entry.last_ms or 0, before_ms + 1) > since_ms):
            _take(groups, "changes", entry, covers)
        before_ms = max(before_ms, entry.covers[1]) if entry.covers else before_ms
    return groups


def stream_groups(entries: Iterable[Entry]) -> list[Group]:
    """All entries: commands of one lane joined, others as they are."""
    groups: list[Group] = []
    for entry in entries:
        last = groups[-1] if groups else None
        if last and (entry.kind != "commands" or (last.kind, last.lane) != (entry.kind, entry.lane)):
            groups.append(Group(entry.kind, [entry], entry.covers))
        else:
            _take(groups, entry.kind, entry, entry.covers)
    return groups


def moments_of(kept: Sequence[Stretch]) -> list[int]:
    """The first and the last moment, and some between, spread over the stretches; MOMENTS at most."""
    edges = {moment for one in kept for moment in (one.since_ms, one.until_ms)}
    edges |= {one.since_ms + (one.until_ms - one.since_ms) * part // 8 for one in kept for part in range(1, 8)}
    every = sorted(edges)
    if len(every) <= MOMENTS:
        return every
    return [every[at * (len(every) - 1) // (MOMENTS - 1)] for at in range(MOMENTS)]


def _take(groups: list[Group], kind: KindName, entry: Entry, covers: tuple[int, int] | None) -> None:
    last = groups[-1] if groups else None
    apart = last and last.covers and covers and covers[0] > last.covers[1]
    if last is None or apart or (last.entries and last.bytes + entry.bytes > SEGMENT_BYTES):
        groups.append(Group(kind, [entry], covers))
        return
    last.entries.append(entry)
    if covers and last.covers:
        last.covers = (last.covers[0], max(last.covers[1], covers[1]))
    else:
        last.covers = last.covers or covers


def _clipped(covers: tuple[int, int] | None, since_ms: int) -> tuple[int, int] | None:
    if covers is None or covers[1] < since_ms:
        return None
    return max(covers[0], since_ms), covers[1]


def _joined(groups: Iterable[Group]) -> int:
    return len([one for one in groups if one.kind in ("changes", "commands")])
