"""Who shall own which slots after a resharding: evenly, and with as few slots moved as possible. Pure.

Called by the API, which stores the answer as what is wanted; the planner of a group moves the slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cachekeep.domain.slots import SLOTS, SlotRange, Slots, count_of, numbers_of, ranges_of


def rebalance(now: Mapping[str, Slots], staying: Sequence[str]) -> Mapping[str, Slots]:
    """The slots of every shard in `staying` (ids): each slot once, counts that differ by one at most.

    now: what each shard owns; a shard that is not named owns nothing yet, and slots of nobody are given out too.
    No slot moves that could stay under these counts. Ranges grow at their ends where a gap borders on them, so that
    few pieces come about. The same question has the same answer. Raises ValueError for no shard at all, for a name
    given twice and for slots that two shards own.
    """
    if not staying or len(set(staying)) != len(staying):
        raise ValueError(f"not a list of shards: {list(staying)!r}")
    owned = [slot for slots in now.values() for slot in numbers_of(slots)]
    if len(owned) != len(set(owned)):
        raise ValueError("two shards own the same slot")
    targets = _targets({name: count_of(now.get(name, ())) for name in staying})
    wanted = {name: now.get(name, ()) for name in staying}
    _hand_to_neighbours(wanted, targets)
    wanted = {name: _shrunk(slots, targets[name]) for name, slots in wanted.items()}
    free = _Gaps(ranges_of(set(range(SLOTS)) - {slot for slots in wanted.values() for slot in numbers_of(slots)}))
    for name in staying:
        wanted[name] = free.grow(wanted[name], targets[name])
    for name in staying:
        wanted[name] = free.fill(wanted[name], targets[name])
    return wanted


def _targets(have: Mapping[str, int]) -> dict[str, int]:
    """How many slots each gets. The larger shares go to those that have most, who then give least away."""
    share, over = divmod(SLOTS, len(have))
    ranked = sorted(have, key=lambda name: -have[name])
    return {name: share + (place < over) for place, name in enumerate(ranked)}


def _hand_to_neighbours(slots: dict[str, Slots], targets: Mapping[str, int]) -> None:
    """Who has too many gives of the ends that border on one who has too few, of the smallest piece first."""
    missing = {name: targets[name] - count_of(owned) for name, owned in slots.items()}
    for giver in [name for name, lack in missing.items() if lack < 0]:
        for span in sorted(slots[giver], key=lambda s: (_length(s), s.first)):
            for from_end in (False, True):
                beside = span.last + 1 if from_end else span.first - 1
                taker = next((n for n in slots if missing[n] > 0 and _borders(slots[n], beside)), None)
                most = 0 if taker is None else min(-missing[giver], missing[taker], _length(span))
                if taker is None or most <= 0:
                    continue
                given, rest = _split(span, most, from_end=from_end)
                others = tuple(s for s in slots[giver] if s != span)
                slots[giver] = tuple(sorted((*others, rest))) if rest is not None else others
                slots[taker] = _joined(slots[taker], given)
                missing[giver] += most
                missing[taker] -= most
                if rest is None:
                    break
                span = rest


def _borders(slots: Slots, at: int) -> bool:
    return any(at in (span.first, span.last) for span in slots)


def _split(span: SlotRange, most: int, *, from_end: bool) -> tuple[SlotRange, SlotRange | None]:
    """Up to `most` slots of the beginning or the end, and what is left."""
    if _length(span) <= most:
        return span, None
    if from_end:
        return SlotRange(span.last - most + 1, span.last), SlotRange(span.first, span.last - most)
    return SlotRange(span.first, span.first + most - 1), SlotRange(span.first + most, span.last)


def _shrunk(slots: Slots, target: int) -> Slots:
    """At most `target` slots: the smallest pieces go first, then the end of the next."""
    spans = sorted(slots, key=lambda span: (_length(span), -span.first))
    surplus = count_of(slots) - target
    while surplus > 0:
        span = spans.pop(0)
        if _length(span) > surplus:
            spans.append(SlotRange(span.first, span.last - surplus))
        surplus -= _length(span)
    return tuple(sorted(spans))


def _length(span: SlotRange) -> int:
    return span.last - span.first + 1


class _Gaps:
    """Slots that are to be given out."""

    def __init__(self, spans: Slots) -> None:
        self._spans = list(spans)

    def grow(self, slots: Slots, target: int) -> Slots:
        """The slots with what borders on them, up to `target`."""
        while (missing := target - count_of(slots)) > 0:
            taken = self._beside(slots, missing)
            if taken is None:
                break
            slots = _joined(slots, taken)
        return slots

    def fill(self, slots: Slots, target: int) -> Slots:
        """The slots with as many others as are missing to `target`: from the smallest gap that is large enough, else
        the largest whole."""
        while (missing := target - count_of(slots)) > 0:
            enough = [span for span in self._spans if _length(span) >= missing]
            if enough:
                span = min(enough, key=lambda s: (_length(s), s.first))
            else:
                span = max(self._spans, key=lambda s: (_length(s), -s.first))
            slots = self.grow(_joined(slots, self._take(span, missing)), target)
        return slots

    def _beside(self, slots: Slots, most: int) -> SlotRange | None:
        firsts, lasts = {span.first for span in slots}, {span.last for span in slots}
        for gap in self._spans:
            if gap.first - 1 in lasts:
                return self._take(gap, most)
            if gap.last + 1 in firsts:
                return self._take(gap, most, from_end=True)
        return None

    def _take(self, gap: SlotRange, most: int, *, from_end: bool = False) -> SlotRange:
        """Up to `most` slots of one gap, from its beginning or its end."""
        taken, rest = _split(gap, most, from_end=from_end)
        at = self._spans.index(gap)
        self._spans[at : at + 1] = [] if rest is None else [rest]
        return taken


def _joined(slots: Slots, more: SlotRange) -> Slots:
    """Both together, as few ranges as possible."""
    spans: list[SlotRange] = []
    for span in sorted((*slots, more)):
        if spans and spans[-1].last + 1 == span.first:
            spans[-1] = SlotRange(spans[-1].first, span.last)
        else:
            spans.append(span)
    return tuple(spans)
