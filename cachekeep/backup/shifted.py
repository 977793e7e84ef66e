"""Contents with every expiry moved into the far future: to load a backup whose keys expire. Called by backup.verify."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from cachekeep.backup.contents import Contents
from cachekeep.codec.record import NO_EXPIRY, Record

_BY_MS = 100 * 365 * 86_400_000


class Shifted:
    """See Contents. Two of it move alike, so they can be compared to the millisecond."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.name, self.captured_ms, self.total_keys = contents.name, contents.captured_ms, contents.total_keys

    @property
    def damaged(self) -> bool:
        return self._contents.damaged

    def databases(self) -> Sequence[int]:
        return self._contents.databases()

    def functions(self) -> bytes | None:
        return self._contents.functions()

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        for records in self._contents.batches(databases, match):
            yield [_shifted(record) for record in records]

    def again(self, records: list[Record]) -> list[Record]:
        return records

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        return self._contents.born(db, keys)

    def why_partial(self, match: bytes | None) -> str | None:
        return self._contents.why_partial(match)


def _shifted(record: Record) -> Record:
    if record.expires_ms == NO_EXPIRY:
        return record
    return msgspec.structs.replace(record, expires_ms=record.expires_ms + _BY_MS)
