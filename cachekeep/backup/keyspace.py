"""Why a backup has another number of keys than INFO KEYSPACE told: shown and explained, never a proof. Pure.

Called by backup.verify.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.backup.catalog import Generation
from cachekeep.backup.catalog_objects import Options


@dataclass(frozen=True)
class KeyspaceRow:
    """One database. info_began, info_ended: INFO's numbers at the beginning and the end of the copy, None: not known.

    keys: in the backup. counted_once: False where keys that the scan returned twice count twice.
    limited: the copy was of some keys only.
    """

    db: int
    info_began: int | None
    info_ended: int | None
    keys: int | None
    counted_once: bool
    limited: bool = False

    def explanation(self) -> str:
        """Of the difference from INFO's last number, as a sentence."""
        told = self.info_began if self.info_ended is None else self.info_ended
        if told is None:
            return "INFO did not tell how many keys there were"
        if self.keys is None:
            return f"INFO counted {told:,}; a snapshot is not counted unless it is loaded (--deep)"
        if self.limited:
            return f"INFO counted {told:,}; only some keys were asked for"
        if told == self.keys:
            return "as many as INFO counted"
        if told > self.keys:
            return (
                f"INFO counted {told - self.keys:,} more: keys that had expired and were not removed yet, that were "
                "gone before they could be read, or that came during the copy"
            )
        also = "" if self.counted_once else ", or keys that the scan returned twice"
        return f"INFO counted {self.keys - told:,} fewer: keys that were deleted or expired during the copy{also}"


def keyspace_rows(generation: Generation, keys: Mapping[int, int]) -> tuple[KeyspaceRow, ...]:
    """keys: per database, each key once; where it is empty, records are counted, from end.json."""
    began = {int(db): count for db, count in (generation.head.databases if generation.head else {}).items()}
    ended = {int(db): _count(told) for db, told in (generation.end.keyspace if generation.end else {}).items()}
    once = bool(keys)
    if not once:
        keys = _records(generation)
    options = generation.head.options if generation.head else Options()
    scope, rows = options.get("databases"), []
    for db in sorted({*began, *ended, *keys}):
        told = ended.get(db, 0) if ended else None
        if scope is None or db in scope:
            here = keys.get(db, 0 if keys else None)
            rows.append(KeyspaceRow(db, began.get(db, 0), told, here, once, options.get("match") is not None))
    return tuple(rows)


def _records(generation: Generation) -> dict[int, int]:
    found: dict[int, int] = {}
    for total in generation.end.totals if generation.end else ():
        if total.kind == "base" and total.db is not None:
            found[total.db] = found.get(total.db, 0) + total.records
    return found


def _count(told: object) -> int | None:
    """Of one database in end.json: a number, or what INFO has of it."""
    count = told.get("keys") if isinstance(told, dict) else told
    return count if isinstance(count, int) else None
