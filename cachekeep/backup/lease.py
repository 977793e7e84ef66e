"""Whether a generation may be being written by another run. Called by backup.expire and backup.compact.

A run that lives gives a sign at least every minute while its source and its store answer: an entry, or a line of the
log. It may be silent for hours while it waits for one of them, and nobody else can tell that from its death. So only
two things end its right to a generation: a `sealed` line, by which a capture says that it stopped; a day of silence.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cachekeep.backup.catalog import CatalogError, Generation, Repository, Status, entry_object, load
from cachekeep.backup.catalog_objects import DamagedObjectError, Entry
from cachekeep.backup.moments import skew_ms
from cachekeep.backup.reader import read_log

LEASE_MS = 24 * 3600 * 1000
_UNENDED = (Status.OPEN, Status.UNFINISHED)
_SLACK_MS = 1000  # between the clocks of the source and of this machine, after their difference is taken off


def moment_ms(name: str) -> int:
    """When a generation began, in ms since 1970, from its name."""
    moment = datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def last_sign_ms(repository: Repository, one: Generation) -> int | None:
    """When it was written to last, as far as it says so itself, by this machine's clock; None: it was sealed since.

    Reads the last entries and the last log alone. Raises BlobError.
    """
    entry_ms, lines = _last_entry_ms(repository, one), _last_lines(repository, one)
    logged = [int(line[key]) for line in lines for key in ("at_ms", "start_ms", "end_ms") if _is_moment(line.get(key))]
    if lines and lines[-1].get("event") == "sealed" and entry_ms <= int(lines[-1].get("at_ms") or 0) + _SLACK_MS:
        return None
    return max([moment_ms(one.name), entry_ms, *logged])


def is_alive(one: Generation, sign_ms: int | None, now_ms: int) -> bool:
    """Whether a run may be writing it. sign_ms: see last_sign_ms."""
    return one.status in _UNENDED and sign_ms is not None and sign_ms > now_ms - LEASE_MS


def _last_entry_ms(repository: Repository, one: Generation) -> int:
    """By the clock of the two that gives the later moment; 0 when no entry tells."""
    ahead_ms = skew_ms(one.head)
    for number in sorted(one.objects.entries, reverse=True):
        try:
            entry = load(repository.blobs, entry_object(one.name, number), Entry)
        except CatalogError:  # damaged: the one before it tells as well
            continue
        if moments := [ms for ms in (entry.last_ms, entry.covers and entry.covers[1]) if ms]:
            return max(moments) - min(ahead_ms, 0)
    return 0


def _last_lines(repository: Repository, one: Generation) -> list[dict[str, Any]]:
    if not one.objects.logs:
        return []
    try:
        return read_log(repository, one.name, max(one.objects.logs))
    except DamagedObjectError:  # `verify` names it; the entries tell as well
        return []


def _is_moment(value: object) -> bool:
    return isinstance(value, int)
