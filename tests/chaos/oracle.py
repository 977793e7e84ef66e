"""What writers were told, and whether the data kept it. Pure.

Two kinds of keys. A log is a list to which every write appends its number, so that each acknowledged write can be
looked for by itself. A counter is set to its number, so its value must be at least the last acknowledged one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cachekeep.codec.slots import slot_of

# Replication is asynchronous: what a primary acknowledged this shortly before it died may not have left it yet.
REPLICATION_WINDOW_S = 1.0
# A writer's thread may note an answer late.
LATE_NOTE_S = 1.0


class Kind(StrEnum):
    LOG = "log"
    COUNTER = "counter"


@dataclass(frozen=True)
class Death:
    """An unplanned end or stop of a primary. Moments are of the monotonic clock.

    since: acknowledged from here on may be lost; 0 when no replica was in sync at that moment. slots: those that the
    primary owned; None for all.
    """

    at: float
    since: float
    what: str
    slots: frozenset[int] | None = None

    def covers(self, key: str, acknowledged_at: float) -> bool:
        mine = self.slots is None or slot_of(key.encode()) in self.slots
        return mine and self.since <= acknowledged_at <= self.at + LATE_NOTE_S


@dataclass
class Record:
    """One key. attempted: the highest number that was sent. acknowledged: numbers and when their answers came.

    deleted_at: when its deletion was acknowledged; doubtful: a deletion was sent and not answered.
    """

    kind: Kind
    attempted: int = 0
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    deleted_at: float | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class Loss:
    """Acknowledged writes of one key that are not there. death: what explains all of them, None for nothing."""

    key: str
    numbers: tuple[int, ...]
    first_at: float
    last_at: float
    death: Death | None


@dataclass
class Verdict:
    """losses: with their explanation. wrong: what no death explains, in sentences."""

    acknowledged: int = 0
    losses: list[Loss] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return sum(len(loss.numbers) for loss in self.losses)

    @property
    def lost_for_nothing(self) -> int:
        return sum(len(loss.numbers) for loss in self.losses if loss.death is None)


# A log's numbers, a counter's value; keys that are not there are missing.
Found = Mapping[str, Sequence[int]]


def judge(records: Mapping[str, Record], found: Found, deaths: Iterable[Death]) -> Verdict:
    """Compare what was acknowledged with what is there."""
    known, verdict = tuple(deaths), Verdict()
    verdict.wrong += [f"{key} is there, and nobody ever wrote it" for key in sorted(found.keys() - records.keys())]
    for key, record in records.items():
        verdict.acknowledged += len(record.acknowledged)
        values = found.get(key, ())
        strange = sorted(value for value in values if not 1 <= value <= record.attempted)
        if strange:
            verdict.wrong.append(f"{key} holds {strange[:3]}, and {record.attempted} was the last that was sent")
        if record.deleted_at is not None:
            _judge_deleted(key, record.deleted_at, values, known, verdict)
        elif not record.doubtful:
            _judge_living(key, record, values, known, verdict)
    return verdict


def _judge_deleted(key: str, at: float, values: Sequence[int], deaths: Sequence[Death], verdict: Verdict) -> None:
    if values and not any(death.covers(key, at) for death in deaths):
        verdict.wrong.append(f"{key} was deleted, acknowledged, and is there again")


def _judge_living(key: str, record: Record, values: Sequence[int], deaths: Sequence[Death], verdict: Verdict) -> None:
    missing = _missing(record, values)
    by_death: dict[Death | None, list[tuple[int, float]]] = {}
    for number, at in missing:
        reason = next((death for death in reversed(deaths) if death.covers(key, at)), None)
        by_death.setdefault(reason, []).append((number, at))
    for reason, lost in by_death.items():
        verdict.losses.append(Loss(key, tuple(number for number, _ in lost), lost[0][1], lost[-1][1], reason))
        if reason is None:
            verdict.wrong.append(
                f"{key}: {len(lost)} acknowledged writes are lost that no death explains, "
                f"numbers {lost[0][0]}-{lost[-1][0]} acknowledged at {lost[0][1]:.3f}-{lost[-1][1]:.3f}"
            )


def _missing(record: Record, values: Collection[int]) -> list[tuple[int, float]]:
    if record.kind is Kind.COUNTER:
        highest = max(values, default=0)
        return [(number, at) for number, at in record.acknowledged if number > highest]
    there = frozenset(values)
    return [(number, at) for number, at in record.acknowledged if number not in there]
