"""Which backups to remove, and why. `plan` is pure; `expire` carries it out. Called by the command `expire`.

A rule names periods: the newest backup of each is kept. In every period a good backup goes before one with gaps, which
counts only where there is no good one. Good is a complete one, and an open one (its source was followed) that covers a
moment. A recovery window keeps whole every backup of which a restorable moment lies in it. Whatever the rule, what is
left holds the newest good and the newest complete backup (the newest with gaps where there is none), and nothing is
removed that another run may still be writing. What an interrupted compaction left counts as one with its origin.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from cachekeep.backup.catalog import Generation, Repository, Status
from cachekeep.backup.compact import origin_of
from cachekeep.backup.lease import LEASE_MS, is_alive, last_sign_ms, moment_ms
from cachekeep.backup.moments import last_moment_ms, skew_ms

ALIVE_MS = LEASE_MS  # an unfinished one that was written to since then may be being written
_HOUR_MS, _DAY_MS = 3600 * 1000, 24 * 3600 * 1000
_NUMBER, _DAYS, _NAMED, _WINDOW = (
    re.compile(r"[0-9]{1,5}\Z"),
    re.compile(r"([0-9]{1,5})d\Z"),
    re.compile(r"(\w+)=([0-9]{1,5})\Z"),
    re.compile(r"window=([0-9]{1,5})([hd])\Z"),
)
_FORMS = (
    "7 (the newest seven), 30d (all of the last 30 days), or any of window=7d (every moment of the last 7 days), "
    "last=3, daily=7, weekly=4, monthly=6, with commas between"
)
_PERIODS: Mapping[str, str] = {"daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m"}  # of UTC


class KeepError(ValueError):
    """Not a rule. Says which part of it, and what there is."""


@dataclass(frozen=True)
class Keep:
    """What stays: the newest `last`, all of the last `days` days, every restorable moment of the last `window_hours`
    hours, the newest of each of the last days, weeks, months that have any.
    """

    last: int = 0
    days: int = 0
    window_hours: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def __post_init__(self) -> None:
        if not any(getattr(self, one.name) for one in fields(self)):
            raise KeepError(f"this would keep nothing; say {_FORMS}")

    def __str__(self) -> str:
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ",".join(_written(name, count) for name, count in named if count)


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


def _written(name: str, count: int) -> str:
    match name:
        case "days":
            return f"{count}d"
        case "window_hours":
            return f"window={count}h" if count % 24 else f"window={count // 24}d"
    return f"{name}={count}"


def _part_of(part: str) -> tuple[str, int]:
    if window := _WINDOW.match(part):
        return "window_hours", int(window[1]) * (24 if window[2] == "d" else 1)
    if _NUMBER.match(part):
        return "last", int(part)
    if days := _DAYS.match(part):
        return "days", int(days[1])
    named = _NAMED.match(part)
    if not named or named[1] not in {"last", *_PERIODS}:
        raise KeepError(f"--keep does not know {part!r}; say {_FORMS}")
    return named[1], int(named[2])


def plan(
    generations: Sequence[Generation],
    keep: Keep,
    now_ms: int,
    written_ms: Mapping[str, int] | None = None,
    covered_ms: Mapping[str, int] | None = None,
    origin_of_twin: Mapping[str, str] | None = None,
) -> list[Removal]:
    """What to remove, oldest first.

    origin_of_twin: of what compactions wrote, the name of the one that it was made from. While that one counts, both
    are one backup: they stay or go together.

    written_ms: of those without an end, when something was written last, if that is known. covered_ms: the latest
    restorable moment of those that were followed and have one. All in ms since 1970 by this machine's clock; a
    generation's age is counted from its name.
    """
    covered, written = covered_ms or {}, written_ms or {}
    counting = {one.name for one in generations if _is_good(one, covered) or one.status is Status.GAPS}
    twins = {twin: origin for twin, origin in (origin_of_twin or {}).items() if origin in counting}
    newest_first = sorted((one for one in generations if one.name not in twins), key=lambda one: one.name, reverse=True)
    good = [one for one in newest_first if _is_good(one, covered)]
    complete = [one for one in newest_first if one.status is Status.COMPLETE]
    best = [*good, *(one for one in newest_first if one.status is Status.GAPS)][:1]
    kept = {*_kept(newest_first, keep, now_ms, covered), *(one.name for one in (*best, *complete[:1]))}
    removals = []
    for one in newest_first:
        if one.name in kept or is_alive(one, max(moment_ms(one.name), written.get(one.name, 0)), now_ms):
            continue
        if one in good:
            removals.append(Removal(one.name, f"{one.status.value}, and not needed for {keep}"))
        elif one.status is Status.GAPS:
            removals.append(Removal(one.name, f"with gaps, and not needed for {keep}"))
        elif good and one.name < good[0].name:
            removals.append(Removal(one.name, f"{one.status.value}, and {good[0].name} is newer and {_how(good[0])}"))
    going = {removal.name for removal in removals}
    for one in generations:
        alive = is_alive(one, max(moment_ms(one.name), written.get(one.name, 0)), now_ms)
        if twins.get(one.name) in going and not alive:
            removals.append(Removal(one.name, f"compacted from {twins[one.name]}, which goes too"))
    return sorted(removals, key=lambda removal: removal.name)


def expire(
    repository: Repository,
    keep: Keep,
    *,
    dry_run: bool = False,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> list[Removal]:
    """Remove what the rule does not keep, oldest first; dry_run: only say so. Raises BlobError, CatalogError."""
    generations, now = repository.generations(), now_ms()
    written = {
        one.name: sign
        for one in generations
        if one.status in (Status.UNFINISHED, Status.OPEN) and (sign := last_sign_ms(repository, one)) is not None
    }
    covered = _covered(repository, generations, keep, now)
    removals = plan(generations, keep, now, written, covered, _twins(repository, generations))
    for removal in () if dry_run else removals:
        repository.remove(removal.name)
    return removals


def _twins(repository: Repository, generations: Iterable[Generation]) -> dict[str, str]:
    """By name, what each was compacted from, where that is there. Their names are 1 ms apart."""
    names = {one.name for one in generations}
    moments = {moment_ms(name) for name in names}
    found: dict[str, str] = {}
    for one in generations:
        if moment_ms(one.name) + 1 in moments and (origin := origin_of(repository, one.name)) in names:
            found[one.name] = str(origin)
    return found


def _covered(repository: Repository, generations: Iterable[Generation], keep: Keep, now_ms: int) -> dict[str, int]:
    """The latest restorable moment of those for which it decides something."""
    found: dict[str, int] = {}
    for one in generations:
        if one.head is None or not one.head.options.get("follow"):
            continue
        # What ended before the window covers nothing of it, and counts as good or not by its end alone.
        if one.end and one.end.ended_ms < now_ms - keep.window_hours * _HOUR_MS:
            continue
        if (last_ms := last_moment_ms(repository, one)) is not None:
            found[one.name] = last_ms - skew_ms(one.head)
    return found


def _is_good(one: Generation, covered: Mapping[str, int]) -> bool:
    return one.status is Status.COMPLETE or (one.status is Status.OPEN and one.name in covered)


def _how(one: Generation) -> str:
    return "complete" if one.status is Status.COMPLETE else "covers a moment"


def _kept(newest_first: Sequence[Generation], keep: Keep, now_ms: int, covered: Mapping[str, int]) -> Iterator[str]:
    """The names that the rule asks for. Only good ones count, and those with gaps."""
    ranked = [one for one in newest_first if _is_good(one, covered) or one.status is Status.GAPS]
    # Of the newest, one with gaps counts only while no newer one is good.
    first_good = next((at for at, one in enumerate(ranked) if one.status is not Status.GAPS), len(ranked))
    counted = [one for at, one in enumerate(ranked) if at < first_good or one.status is not Status.GAPS]
    yield from (one.name for one in counted[: keep.last])
    if keep.days:
        yield from (one.name for one in ranked if moment_ms(one.name) >= now_ms - keep.days * _DAY_MS)
    if keep.window_hours:
        since_ms = now_ms - keep.window_hours * _HOUR_MS
        yield from (one.name for one in newest_first if _reaches(one, since_ms, covered))
    for period, form in _PERIODS.items():
        yield from _newest_of_each(ranked, form, getattr(keep, period))


def _reaches(one: Generation, since_ms: int, covered: Mapping[str, int]) -> bool:
    """Whether a moment since then can be restored from it. A copy that was not followed is of the moment of its end."""
    if one.name in covered:
        return covered[one.name] >= since_ms
    ended_ms = one.end.ended_ms if one.end else 0
    return one.status in (Status.COMPLETE, Status.GAPS) and max(moment_ms(one.name), ended_ms) >= since_ms


def _newest_of_each(finished: Iterable[Generation], form: str, periods: int) -> list[str]:
    """The name of one for each of the newest periods that have any."""
    best: dict[str, Generation] = {}
    for one in finished:
        period = datetime.fromtimestamp(moment_ms(one.name) / 1000, UTC).strftime(form)
        held = best.setdefault(period, one)
        if held.status is Status.GAPS and one.status is not Status.GAPS:
            best[period] = one
    return [one.name for one in list(best.values())[:periods]]
