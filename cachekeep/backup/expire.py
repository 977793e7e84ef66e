"""Which backups to remove, and why. `plan` is pure; `expire` carries it out. Called by the command `expire`.

A rule names periods: the newest backup of each is kept. In every period a complete backup goes before one with gaps,
which counts only where there is no complete one. Whatever the rule, what is left holds the newest complete backup (the
newest with gaps where none is complete), and nothing is removed that another run may still be writing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from cachekeep.backup.catalog import Generation, Repository, Status
from cachekeep.backup.catalog_chain import read_chain

ALIVE_MS = 24 * 3600 * 1000  # an unfinished one that was written to since then may be being written
_DAY_MS = 24 * 3600 * 1000
_NUMBER, _DAYS, _NAMED = (
    re.compile(r"[0-9]{1,5}\Z"),
    re.compile(r"([0-9]{1,5})d\Z"),
    re.compile(r"(\w+)=([0-9]{1,5})\Z"),
)
_FORMS = "7 (the newest seven), 30d (all of the last 30 days), or any of last=3,daily=7,weekly=4,monthly=6"
_PERIODS: Mapping[str, str] = {"daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m"}  # of UTC


class KeepError(ValueError):
    """Not a rule. Says which part of it, and what there is."""


@dataclass(frozen=True)
class Keep:
    """What stays: the newest `last`, all of the last `days` days, the newest of each of the last days, weeks, months
    that have any.
    """

    last: int = 0
    days: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def __post_init__(self) -> None:
        if not any(getattr(self, one.name) for one in fields(self)):
            raise KeepError(f"this would keep nothing; say {_FORMS}")

    def __str__(self) -> str:
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ",".join(f"{count}d" if name == "days" else f"{name}={count}" for name, count in named if count)


@dataclass(frozen=True)
class Removal:
    """A backup that goes, and why, as a sentence."""

    name: str
    reason: str


def keep_of(text: str) -> Keep:
    """A rule as it is written on the command line. Raises KeepError."""
    found: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        name, count = _part_of(part)
        if name in found:
            raise KeepError(f"--keep {text!r} says {name} twice")
        found[name] = count
    return Keep(**found)


def _part_of(part: str) -> tuple[str, int]:
    if _NUMBER.match(part):
        return "last", int(part)
    if days := _DAYS.match(part):
        return "days", int(days[1])
    named = _NAMED.match(part)
    if not named or named[1] not in {"last", *_PERIODS}:
        raise KeepError(f"--keep does not know {part!r}; say {_FORMS}")
    return named[1], int(named[2])


def plan(
    generations: Sequence[Generation], keep: Keep, now_ms: int, written_ms: Mapping[str, int] | None = None
) -> list[Removal]:
    """What to remove, oldest first. written_ms: of unfinished ones, when something was written last, if that is known.

    Both in ms since 1970; a generation's age is counted from its name.
    """
    newest_first = sorted(generations, key=lambda one: one.name, reverse=True)
    complete = [one for one in newest_first if one.status is Status.COMPLETE]
    newest = complete[0].name if complete else None
    best = [*complete, *(one for one in newest_first if one.status is Status.GAPS)][:1]
    kept = {*_kept(newest_first, keep, now_ms), *(one.name for one in best)}
    removals = []
    for one in newest_first:
        if one.name in kept:
            continue
        if one.status in (Status.COMPLETE, Status.GAPS):
            how = "with gaps, and" if one.status is Status.GAPS else "complete, and"
            removals.append(Removal(one.name, f"{how} not needed for {keep}"))
        elif newest is not None and one.name < newest and not _alive(one, now_ms, written_ms or {}):
            removals.append(Removal(one.name, f"{one.status.value}, and {newest} is newer and complete"))
    return removals[::-1]


def expire(
    repository: Repository,
    keep: Keep,
    *,
    dry_run: bool = False,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> list[Removal]:
    """Remove what the rule does not keep, oldest first; dry_run: only say so. Raises BlobError, CatalogError."""
    generations = repository.generations()
    written = {
        one.name: moments[-1]
        for one in generations
        if one.status is Status.UNFINISHED
        and (moments := [entry.last_ms for entry in read_chain(repository, one.name).entries if entry.last_ms])
    }
    removals = plan(generations, keep, now_ms(), written)
    for removal in () if dry_run else removals:
        repository.remove(removal.name)
    return removals


def _kept(newest_first: Sequence[Generation], keep: Keep, now_ms: int) -> Iterator[str]:
    """The names that the rule asks for. Only finished ones count."""
    finished = [one for one in newest_first if one.status in (Status.COMPLETE, Status.GAPS)]
    # Of the newest, one with gaps counts only while no newer one is complete.
    first_complete = next((at for at, one in enumerate(finished) if one.status is Status.COMPLETE), len(finished))
    counted = [one for at, one in enumerate(finished) if at < first_complete or one.status is Status.COMPLETE]
    yield from (one.name for one in counted[: keep.last])
    if keep.days:
        yield from (one.name for one in finished if moment_ms(one.name) >= now_ms - keep.days * _DAY_MS)
    for period, form in _PERIODS.items():
        yield from _newest_of_each(finished, form, getattr(keep, period))


def _newest_of_each(finished: Iterable[Generation], form: str, periods: int) -> list[str]:
    """The name of one for each of the newest periods that have any."""
    best: dict[str, Generation] = {}
    for one in finished:
        period = datetime.fromtimestamp(moment_ms(one.name) / 1000, UTC).strftime(form)
        held = best.setdefault(period, one)
        if held.status is Status.GAPS and one.status is Status.COMPLETE:
            best[period] = one
    return [one.name for one in list(best.values())[:periods]]


def _alive(one: Generation, now_ms: int, written_ms: Mapping[str, int]) -> bool:
    """True when another run may be writing it."""
    last_sign = max(moment_ms(one.name), written_ms.get(one.name, 0))
    return one.status is Status.UNFINISHED and last_sign > now_ms - ALIVE_MS


def moment_ms(name: str) -> int:
    """When a generation began, in ms since 1970, from its name."""
    moment = datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
