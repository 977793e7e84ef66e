"""Which record of a key is its last one, where changes follow a copy. Called by backup.contents; pure.

The changes are read twice: first to learn what they say last of each key, then for those records alone. So nobody
writes a value to a target that a later record replaces. Memory grows with the number of keys that changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cachekeep.codec.record import Kind, Record

_OF_KEYS = frozenset((int(Kind.UPSERT), int(Kind.TOMBSTONE)))
Numbered = Iterable[tuple[int, list[Record]]]


class Latest:
    """Changes are numbered in the order of truth, from 0. A change of a key is taken to be later than its copy.

    flushed: the number of the entry at which a database was last flushed: what entries before it have of it is void.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, bytes], int] = {}
        self.flushed: dict[int, int] = {}

    @classmethod
    def of(cls, batches: Numbered) -> Latest:
        """batches: all records of changes, with the numbers of their entries."""
        found, number = cls(), 0
        for entry, records in batches:
            for record in records:
                if record.kind in _OF_KEYS:
                    found._last[record.db, record.key] = number
                elif record.kind == Kind.FLUSHED:
                    found.flushed[record.db] = entry
                    found._last = {key: last for key, last in found._last.items() if key[0] != record.db}
                number += 1
        return found

    def __bool__(self) -> bool:
        return bool(self._last or self.flushed)

    @property
    def databases(self) -> set[int]:
        return {db for db, _ in self._last}

    def is_void(self, db: int | None, entry: int) -> bool:
        """A flush came after this entry."""
        return db is not None and entry < self.flushed.get(db, 0)

    def of_base(self, records: list[Record]) -> list[Record]:
        """What of a copy no change replaces."""
        if not self._last:
            return records
        last = self._last
        return [one for one in records if (one.db, one.key) not in last]

    def of_changes(self, batches: Numbered) -> Iterator[list[Record]]:
        """The same batches again: what of them holds in the end."""
        number = 0
        for _, records in batches:
            left = [
                record
                for at, record in enumerate(records, number)
                if record.kind in _OF_KEYS and self._last.get((record.db, record.key)) == at
            ]
            number += len(records)
            if left:
                yield left
