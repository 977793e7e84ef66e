"""Reads a large key in pages, so that no command holds the server up for long; one moment all the same.

WATCH, pages, then MULTI..EXEC: EXEC answers nil when anybody wrote to the key since WATCH, and the pages are read
again. WATCH does not see what consumer groups do to a stream, nor does anything page through modules' values: those
are read by DUMP. Called by backup.scan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cachekeep.backup.key_reader import GONE, KeyReader
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.dump import Unrepresentable, rdb_version_of
from cachekeep.codec.dump.encode import Kind, PayloadBuilder
from cachekeep.codec.record import NO_EXPIRY
from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal

TRIES = 5
_STRING_PAGE_BYTES = 1 << 20
_PAGE_BYTES, _PAGE_ELEMENTS, _FIRST_PAGE = 256 << 10, 1000, 10
_KINDS: dict[bytes, Kind] = {b"string": "string", b"list": "list", b"set": "set", b"zset": "zset", b"hash": "hash"}
_SCANS = {"hash": "HSCAN", "set": "SSCAN", "zset": "ZSCAN"}


class BigKey(NamedTuple):
    """payload None: the key is gone. expires_ms: absolute, or NO_EXPIRY. captured_ms: by the source's clock."""

    payload: bytes | None
    expires_ms: int
    captured_ms: int


def read_in_pages(
    connection: Connection, survey: Survey, key: bytes, on_whole: Callable[[str], None] = lambda why: None
) -> BigKey:
    """No reply may be outstanding. on_whole: told why a key was read by one DUMP all the same, as a sentence.

    Raises Refusal in the server's words, RemoteError.
    """
    name = repr(key[:100])
    if not survey.can(Ability.WATCH):
        on_whole(f"key {name} was read by one DUMP: {survey.denied[Ability.WATCH]}")
        return _whole(connection, survey, key)
    for _ in range(TRIES):
        connection.ask("WATCH", key)
        try:
            kind = connection.ask("TYPE", key)
            if kind == b"none":
                return BigKey(None, NO_EXPIRY, _now_ms(survey))
            if kind not in _KINDS:
                connection.ask("UNWATCH")
                on_whole(
                    f"key {name} was read by one DUMP: a {kind.decode('ascii', 'replace')} cannot be paged through"
                )
                return _whole(connection, survey, key)
            builder = PayloadBuilder(_KINDS[kind])
            for page in _pages(connection, survey, _KINDS[kind], key):
                builder.add(page)
            read = _proved(connection, survey, key, builder, may_be_empty=kind == b"string")
        except Unrepresentable:
            on_whole(f"key {name} was read by one DUMP: it has fields that expire")
            return _whole(connection, survey, key)
        finally:
            connection.ask("UNWATCH")
        if read is not None:
            return read
    on_whole(f"key {name} was read by one DUMP: it was written to during {TRIES} readings in pages")
    return _whole(connection, survey, key)


def _proved(
    connection: Connection, survey: Survey, key: bytes, builder: PayloadBuilder, *, may_be_empty: bool
) -> BigKey | None:
    """With the expiry, if nobody wrote meanwhile; else None. UNWATCH behind EXEC does nothing."""
    reader = KeyReader(connection, survey)
    has_time = survey.can(Ability.TIME)
    connection.send(pack("MULTI") + reader.expiry_request(key) + (pack("TIME") if has_time else b"") + pack("EXEC"))
    *queued, answer = connection.receive(4 if has_time else 3)
    if answer is None:
        return None
    if isinstance(answer, Refusal):
        raise next((reply for reply in queued if isinstance(reply, Refusal)), answer)
    captured_ms = reader.now_ms(answer[1] if has_time else None)
    expires_ms = reader.expiry(answer[0], captured_ms)
    if expires_ms == GONE or not (builder.count or may_be_empty):
        return BigKey(None, NO_EXPIRY, captured_ms)
    return BigKey(builder.payload(rdb_version_of(survey.target)), expires_ms, captured_ms)


def _whole(connection: Connection, survey: Survey, key: bytes) -> BigKey:
    reader = KeyReader(connection, survey)
    for _ in range(100):
        connection.send(reader.request([key]))
        batch = reader.read(1)
        if not batch.unread:
            break
    payload = batch.payloads[0]
    if isinstance(payload, Refusal):
        raise payload
    return BigKey(payload, batch.expiries[0] if payload is not None else NO_EXPIRY, batch.captured_ms)


def _pages(connection: Connection, survey: Survey, kind: Kind, key: bytes) -> Iterator[list[Any]]:
    match kind:
        case "string":
            for at in range(0, connection.ask("STRLEN", key), _STRING_PAGE_BYTES):
                yield [connection.ask("GETRANGE", key, at, at + _STRING_PAGE_BYTES - 1)]
        case "list":
            at, step = 0, _FIRST_PAGE
            while page := connection.ask("LRANGE", key, at, at + step - 1):
                yield page
                at, step = at + len(page), _next_step(page)
        case _:
            yield from _scanned(connection, survey, kind, key)


def _scanned(connection: Connection, survey: Survey, kind: Kind, key: bytes) -> Iterator[list[Any]]:
    """Pages of HSCAN, SSCAN, ZSCAN: an element may come twice, which the builder knows."""
    cursor, step = b"0", _FIRST_PAGE
    while True:
        cursor, flat = connection.ask(_SCANS[kind], key, cursor, "COUNT", step)
        step = _next_step(flat)
        if kind == "set":
            yield flat
        elif kind == "zset":
            yield [(flat[at], float(flat[at + 1])) for at in range(0, len(flat), 2)]
        elif flat and survey.target.expires_fields:
            fields = flat[::2]
            expiries = connection.ask("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
            triples = zip(fields, flat[1::2], expiries, strict=True)
            # -2: the field expired since HSCAN gave it.
            yield [(one, value, at if at >= 0 else None) for one, value, at in triples if at != GONE]
        else:
            yield list(zip(flat[::2], flat[1::2], strict=True))
        if cursor == b"0":
            return


def _next_step(page: list[bytes]) -> int:
    """How many elements to ask for next, by the size of those that came."""
    if not page:
        return _PAGE_ELEMENTS
    each = max(1, sum(map(len, page)) // len(page))
    return max(1, min(_PAGE_ELEMENTS, _PAGE_BYTES // each))


def _now_ms(survey: Survey) -> int:
    return time.time_ns() // 1_000_000 + survey.clock_ahead_ms
