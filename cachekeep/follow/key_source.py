"""One node as its keys are read: a connection to ask things on, one per database to read on. Belongs to one thread."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from cachekeep.backup.copy_run import keyspace
from cachekeep.backup.scan import batches_of
from cachekeep.backup.survey_types import Ability, Node, Survey
from cachekeep.codec.info import parse_info
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault
from cachekeep.follow.monitor import Monitor

_EXCHANGE_KEYS = 500


class KeySource:
    """Connects with `open`; `close` ends all that it has. Everything raises RemoteError."""

    def __init__(self, remote: Remote, survey: Survey, node: Node, monitor: Monitor) -> None:
        self._remote = remote.at(node.host, node.port) if node.host else remote
        self._survey, self._monitor = survey, monitor
        self._readers: dict[int, Connection] = {}
        self._side: Connection | None = None
        self.reconnected = 0

    @property
    def side(self) -> Connection:
        """For questions."""
        if self._side is None:
            self._side = self.open()
        return self._side

    def open(self, db: int = 0) -> Connection:
        """A connection of the caller's. What is read by it does not look used, where the server can do that."""
        connection = self._remote.connect(db)
        for ability in (Ability.NO_TOUCH, Ability.NO_EVICT):
            if self._survey.can(ability):
                with suppress(Refusal):  # costs only the favour
                    connection.ask(*ability.value.split(), "ON")
        return connection

    def close(self) -> None:
        for connection in [*self._readers.values(), *([self._side] if self._side else [])]:
            connection.close()
        self._readers, self._side = {}, None

    def sizes(self) -> dict[int, int]:
        """Keys per database, of those that have any."""
        try:
            return {db: numbers.get("keys", 0) for db, numbers in keyspace(self.side).items()}
        except Refusal as refusal:
            raise denied(self.side.address, refusal) from refusal

    def records(self, db: int, keys: list[bytes]) -> tuple[list[Record], list[tuple[bytes, Refusal]]]:
        """The keys as they are; those that are gone are in neither."""
        try:
            return self._records(db, keys)
        except RemoteError as error:
            # A server with a short `timeout` cuts a reader that had nothing to do: no reason to lose continuity.
            if error.fault is not RemoteFault.UNREACHABLE:
                raise
            self.reconnected += 1
            if lost := self._readers.pop(db, None):
                lost.close()
            return self._records(db, keys)

    def _records(self, db: int, keys: list[bytes]) -> tuple[list[Record], list[tuple[bytes, Refusal]]]:
        if db not in self._readers:
            self._readers[db] = self.open(db)
        records: list[Record] = []
        refused: list[tuple[bytes, Refusal]] = []
        reader, note = self._readers[db], self._monitor.note
        for batch in batches_of(reader, self._survey, keys, db=db, count=_EXCHANGE_KEYS, on_note=note):
            records += batch.records
            refused += batch.refused
        return records, refused

    def info(self, section: str) -> Mapping[str, str]:
        """A section of INFO; empty where it is not told."""
        try:
            reply = self.side.ask("INFO", section)
        except Refusal:
            return {}
        return parse_info(reply.decode("utf-8", "replace")) if isinstance(reply, bytes) else {}

    def functions(self) -> bytes | None:
        """What FUNCTION DUMP gives; None where it is not allowed."""
        if not self._survey.can(Ability.FUNCTIONS):
            return None
        try:
            payload = self.side.ask("FUNCTION", "DUMP")
        except Refusal as refusal:
            self._monitor.note(f"functions of {self.side.address} could not be read: {refusal}")
            return None
        return payload if isinstance(payload, bytes) else None


def denied(address: str, refusal: Refusal) -> RemoteError:
    """A refusal of what following needs, as an error; one that passes is UNREACHABLE."""
    passing = refusal.code in ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY")
    fault = RemoteFault.UNREACHABLE if passing else RemoteFault.DENIED
    return RemoteError(fault, f"{address} does not let itself be followed: {refusal}", "see `backup doctor`")
