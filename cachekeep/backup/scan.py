"""Reads the keys of one database of one node: SCAN and DUMP, one exchange ahead. Called by copies and comparisons.

While the server works on a batch, the batch before it is handled: the reads of batch N and the SCAN for batch N+1 are
sent together, then batch N-1 is given to the caller, then the answers are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cachekeep.backup.big_keys import read_in_pages
from cachekeep.backup.key_reader import Batch, KeyReader
from cachekeep.backup.sizes import Finder, Found, passing
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.record import Kind, Record
from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault, understood

_TRIES = 100
_UPSERT = int(Kind.UPSERT)


class ScanBatch(NamedTuple):
    """cursor: all keys that SCAN returned before it are in this batch or an earlier one; "0": all there are. None: more
    of the same batch follows. refused: keys and the server's words. vanished: keys that were gone already.
    """

    records: list[Record]
    cursor: str | None
    refused: list[tuple[bytes, Refusal]]
    vanished: int


def scan_batches(
    connection: Connection,
    survey: Survey,
    *,
    db: int,
    cursor: str = "0",
    match: bytes | None = None,
    count: int = 100,
    wanted: Callable[[bytes], bool] | None = None,
    before_read: Callable[[int], None] = lambda keys: None,
    on_note: Callable[[str], None] = lambda sentence: None,
) -> Iterator[ScanBatch]:
    """Batches of about `count` keys and a few MiB at most, from the cursor on. The connection has to be in `db`.

    wanted: which keys are read at all. before_read: called with the number of keys, may wait. on_note: sentences.
    Close the connection when this is not read to its end: answers may be outstanding. Raises RemoteError: a server
    that refuses everything for a while (LOADING, BUSY, MASTERDOWN) is UNREACHABLE.
    """
    with _refusals(connection):
        _be_discreet(connection, survey)
        yield from _scanned(connection, survey, db, cursor.encode(), match, count, wanted, before_read, on_note)


def batches_of(
    connection: Connection,
    survey: Survey,
    keys: Sequence[bytes],
    *,
    db: int,
    count: int = 100,
    before_read: Callable[[int], None] = lambda keys: None,
    on_note: Callable[[str], None] = lambda sentence: None,
) -> Iterator[ScanBatch]:
    """These keys, `count` at a time, sizes looked at first. Batches have no cursor. Errors as of scan_batches."""
    with _refusals(connection):
        finder, reader = Finder(connection, survey, None, count), KeyReader(connection, survey)
        for at in range(0, len(keys), count):
            found = finder.sized(list(keys[at : at + count]))
            before_read(len(found.keys))
            for group in found.exchanges():
                yield _asked(reader, connection, group, db)
            for key, _ in found.in_pages():
                yield _paged(connection, survey, key, db, on_note)


def read_keys(connection: Connection, survey: Survey, keys: Sequence[bytes], *, db: int) -> ScanBatch:
    """All of them at once, for keys that are known to fit into memory. Errors as of scan_batches."""
    records: list[Record] = []
    refused: list[tuple[bytes, Refusal]] = []
    vanished = 0
    for batch in batches_of(connection, survey, keys, db=db):
        records += batch.records
        refused += batch.refused
        vanished += batch.vanished
    return ScanBatch(records, None, refused, vanished)


@contextmanager
def _refusals(connection: Connection) -> Iterator[None]:
    """A refusal of everything is the connection's."""
    try:
        with understood(connection.address):
            yield
    except Refusal as refusal:
        fault = RemoteFault.UNREACHABLE if passing(refusal) else RemoteFault.DENIED
        what, advice = f"{connection.address} refuses to be read: {refusal}", "see what this user may do there"
        raise RemoteError(fault, what, advice) from refusal


def _scanned(
    connection: Connection,
    survey: Survey,
    db: int,
    cursor: bytes,
    match: bytes | None,
    count: int,
    wanted: Callable[[bytes], bool] | None,
    before_read: Callable[[int], None],
    on_note: Callable[[str], None],
) -> Iterator[ScanBatch]:
    finder, reader = Finder(connection, survey, match, count), KeyReader(connection, survey)
    connection.send(finder.request(cursor))
    found, waiting = _chosen(finder.read(), wanted), None
    while True:
        first, *rest = found.exchanges()
        more = found.cursor != b"0"
        before_read(len(found.keys))
        # An empty database has nothing to send.
        if request := reader.request(first) + (finder.request(found.cursor) if more else b""):
            connection.send(request)
        if waiting is not None:
            yield waiting
        batch = reader.read(len(first))
        following = _chosen(finder.read(), wanted) if more else None
        waiting = _settled(reader, connection, first, batch, db, found.cursor.decode())
        if rest or found.large:
            yield waiting._replace(cursor=None)
            for keys in rest:
                yield _asked(reader, connection, keys, db)
            for key, _ in found.in_pages():
                yield _paged(connection, survey, key, db, on_note)
            waiting = ScanBatch([], found.cursor.decode(), [], 0)
        if finder.note:
            on_note(finder.note)
        if following is None:
            yield waiting
            return
        found = following


def _chosen(found: Found, wanted: Callable[[bytes], bool] | None) -> Found:
    if wanted is None:
        return found
    places = [at for at, key in enumerate(found.keys) if wanted(key)]
    large = {new: found.large[at] for new, at in enumerate(places) if at in found.large}
    total = found.size_bytes if places else 0
    return Found(found.cursor, [found.keys[at] for at in places], total, large)


def _asked(reader: KeyReader, connection: Connection, keys: list[bytes], db: int) -> ScanBatch:
    """In an exchange of its own."""
    connection.send(reader.request(keys))
    return _settled(reader, connection, keys, reader.read(len(keys)), db, None)


def _settled(
    reader: KeyReader, connection: Connection, keys: list[bytes], batch: Batch, db: int, cursor: str | None
) -> ScanBatch:
    """Records of what was read; what a writer came between is asked again. No reply may be outstanding."""
    records: list[Record] = []
    refused: list[tuple[bytes, Refusal]] = []
    vanished = _sort(keys, batch, db, records, refused)
    for _ in range(_TRIES):
        if not batch.unread:
            break
        keys = [keys[at] for at in batch.unread]
        connection.send(reader.request(keys))
        batch = reader.read(len(keys))
        vanished += _sort(keys, batch, db, records, refused)
    else:
        refused += [(keys[at], Refusal(f"ERR its expiry changed during {_TRIES} readings")) for at in batch.unread]
    return ScanBatch(records, cursor, refused, vanished)


def _sort(keys: list[bytes], batch: Batch, db: int, records: list[Record], refused: list[tuple[bytes, Refusal]]) -> int:
    """Into records and refusals; returns how many keys are gone."""
    captured_ms, append, gone = batch.captured_ms, records.append, -len(batch.unread)
    for key, payload, expires_ms in zip(keys, batch.payloads, batch.expiries, strict=True):
        if type(payload) is bytes:
            append(Record(_UPSERT, db, expires_ms, captured_ms, key, payload))
        elif payload is None:
            gone += 1
        elif isinstance(payload, Refusal) and passing(payload):
            raise payload
        elif isinstance(payload, Refusal):
            refused.append((key, payload))
    return gone


def _paged(connection: Connection, survey: Survey, key: bytes, db: int, on_note: Callable[[str], None]) -> ScanBatch:
    try:
        read = read_in_pages(connection, survey, key, on_note)
    except Refusal as refusal:
        if passing(refusal):
            raise
        return ScanBatch([], None, [(key, refusal)], 0)
    if read.payload is None:
        return ScanBatch([], None, [], 1)
    return ScanBatch([Record(_UPSERT, db, read.expires_ms, read.captured_ms, key, read.payload)], None, [], 0)


def _be_discreet(connection: Connection, survey: Survey) -> None:
    """A copy neither makes keys look used nor is thrown out when memory for clients is short."""
    for ability in (Ability.NO_TOUCH, Ability.NO_EVICT):
        if survey.can(ability):
            connection.send(pack(*ability.value.split(), "ON"))
            connection.receive(1)  # a refusal costs only the favour
