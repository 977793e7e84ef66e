"""A living endpoint as contents: every key of every primary, now. Called through backup.contents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from cachekeep.backup.extras import databases_at
from cachekeep.backup.one_key import read_one
from cachekeep.backup.routing import Place, Routes, is_redirection
from cachekeep.backup.scan import read_keys, scan_batches
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault

_COUNT = 500


class LivingContents:
    """See Contents. unread: keys per reason that it refused to show."""

    def __init__(self, remote: Remote, survey: Survey, *, count: int = _COUNT) -> None:
        self._remote, self._survey, self._count = remote, survey, count
        self.name, self.damaged, self.unread = remote.name, False, Counter[str]()

    @property
    def captured_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._survey.clock_ahead_ms

    @property
    def total_keys(self) -> int | None:
        return self._survey.keys

    def databases(self) -> Sequence[int]:
        routes = Routes(self._remote, self._survey)
        try:
            return databases_at(routes)
        finally:
            routes.close()

    def functions(self) -> bytes | None:
        """Of the first node: in cluster mode all should have the same."""
        if not self._survey.can(Ability.FUNCTIONS):
            return None
        with self._remote.connect(0) as connection:
            try:
                payload = connection.ask("FUNCTION", "DUMP")
            except Refusal:
                return None
            return payload if isinstance(payload, bytes) else None

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        """Raises RemoteError when a connection breaks: what was read is of no use then."""
        routes = Routes(self._remote, self._survey)
        try:
            for db in self.databases():
                if databases is None or db in databases:
                    for place in routes.places():
                        with routes.connect(place, db) as connection:
                            scanned = scan_batches(connection, self._survey, db=db, match=match, count=self._count)
                            for batch in scanned:
                                records = batch.records
                                if batch.refused:
                                    records = records + self._elsewhere(routes, db, batch.refused)
                                if records:
                                    yield records
        finally:
            routes.close()

    def again(self, records: list[Record]) -> list[Record]:
        if not records:
            return []
        db, keys = records[0].db, [record.key for record in records]
        routes, found = Routes(self._remote, self._survey), list[Record]()
        groups: dict[Place, list[bytes]] = {}
        for key in keys:
            groups.setdefault(routes.place_of(key), []).append(key)
        try:
            for place, some in groups.items():
                batch = read_keys(routes.side(place, db), self._survey, some, db=db)
                found += batch.records + self._elsewhere(routes, db, batch.refused)
        except Refusal as refusal:
            what = f"{self.name} refuses to be read: {refusal}"
            raise RemoteError(RemoteFault.DENIED, what, "see what this user may do there") from refusal
        finally:
            routes.close()
        return found

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        asked = [Record(int(Kind.UPSERT), db, NO_EXPIRY, 0, key, b"") for key in keys]
        return {record.key for record in self.again(asked)}

    def why_partial(self, match: bytes | None) -> str | None:
        unread = sum(self.unread.values())
        return f"{self.name} refused to show {unread} keys" if unread else None

    def _elsewhere(self, routes: Routes, db: int, refused: list[tuple[bytes, Refusal]]) -> list[Record]:
        """Keys that moved to another node meanwhile; what is refused for other reasons is counted."""
        found: list[Record] = []
        for key, refusal in refused:
            if not is_redirection(refusal):
                self.unread[str(refusal)] += 1
                continue
            one = routes.converse(key, db, lambda talk, key=key: read_one(talk, self._survey, key))  # type: ignore[misc]
            if one.payload is not None:
                found.append(Record(int(Kind.UPSERT), db, one.expires_ms, one.now_ms, key, one.payload))
        return found
