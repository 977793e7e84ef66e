"""Write keys so that each is there whole or not at all. Called by backup.line.

Nearly always that is `RESTORE key ttl payload REPLACE ABSTTL`, which the server does in one step. An older server gets
the payload under its own RDB version. What its RESTORE cannot read, and what is so large that one RESTORE would hold
up everybody, is built by commands under another name and renamed; that name expires by itself should we be killed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cachekeep.backup.compare import HASH_WITH_EXPIRY, living
from cachekeep.backup.routing import Talk, exchange
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.dump import (
    DumpError,
    Unrepresentable,
    commands,
    decode,
    loadable,
    rdb_version,
    rdb_version_of,
    with_version,
)
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.resp import pack
from cachekeep.codec.slots import slot_of, tag_of
from cachekeep.domain.remote import Refusal

LARGE_BYTES = 8 << 20
TEMPORARY_PREFIX = b"cachekeep:restoring:"
_TEMPORARY_MS = 3_600_000
_EXCHANGE_BYTES, _EXCHANGE_COMMANDS = 4 << 20, 500
_SHARED_VERSION, _VALKEY_VERSION = 11, 80  # between them are versions of Redis that Valkey does not take
_STRING, _MODULE = 0, 7
_UPSERT = int(Kind.UPSERT)
_BEGIN, _END = b"*6\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n", b"$%d\r\n%b\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
_RESTORE = _BEGIN + b"$%d\r\n%b\r\n" + _END
_FOR_EVER = _BEGIN + b"$1\r\n0\r\n" + _END


class Rewrite(NamedTuple):
    """What a record becomes that needs commands: `steps` build it, in order, at `name`."""

    name: bytes
    steps: list[list[bytes]]


class KeyWriter:
    """For one endpoint."""

    def __init__(self, survey: Survey) -> None:
        """Raises Unrepresentable when the endpoint is too old for everything."""
        self._target = survey.target
        self._version = rdb_version_of(survey.target)
        plain = (*range(min(self._version, _SHARED_VERSION) + 1), self._version)
        self._plain = frozenset(version.to_bytes(2, "little") for version in plain)
        self._together = survey.can(Ability.WATCH)

    def restore_new(self, records: Sequence[Record], now_ms: int) -> tuple[list[bytes], list[int]]:
        """Packed RESTOREs, and the positions of those records that need a closer look. One loop, for its speed."""
        packed, closer, plain = list[bytes](), list[int](), self._plain
        for at, record in enumerate(records):
            key, payload, expires_ms = record.key, record.payload, record.expires_ms
            size = len(payload)
            if (
                record.kind != _UPSERT
                or NO_EXPIRY != expires_ms <= now_ms
                or payload[0] >= HASH_WITH_EXPIRY
                or payload[-10:-8] not in plain
                or size > LARGE_BYTES
            ):
                closer.append(at)
            elif expires_ms == NO_EXPIRY:
                packed.append(_FOR_EVER % (len(key), key, size, payload))
            else:
                ttl = b"%d" % expires_ms
                packed.append(_RESTORE % (len(key), key, len(ttl), ttl, size, payload))
        return packed, closer

    def restore(self, record: Record) -> bytes | None:
        """The packed RESTORE; None when it takes commands, or when the payload is none."""
        key, payload, expires_ms = record.key, record.payload, record.expires_ms
        if len(payload) > LARGE_BYTES or payload[0] >= HASH_WITH_EXPIRY or payload[-10:-8] not in self._plain:
            try:
                adapted = self._adapted(payload)
            except DumpError:
                return None
            if adapted is None:
                return None
            payload = adapted
        if expires_ms == NO_EXPIRY:
            return _FOR_EVER % (len(key), key, len(payload), payload)
        ttl = b"%d" % expires_ms
        return _RESTORE % (len(key), key, len(ttl), ttl, len(payload), payload)

    def rewrite(self, record: Record, now_ms: int) -> Rewrite | None:
        """The commands that build it; None when each of its fields has expired. Raises Unrepresentable, DumpError."""
        value = living(decode(record.payload), now_ms)
        if value is None:
            return None
        name = TEMPORARY_PREFIX + b"{%b}%b" % (tag_of(slot_of(record.key)), secrets.token_hex(8).encode())
        return Rewrite(name, commands(name, value, self._target))

    def build(self, talk: Talk, record: Record, rewrite: Rewrite) -> None:
        """Run the commands and put the result in the key's place. Raises Refusal: then nothing has changed."""
        try:
            first, rest = rewrite.steps[0], rewrite.steps[1:]
            expiring = pack("PEXPIRE", rewrite.name, _TEMPORARY_MS)
            self._step(talk, [pack(*first), expiring])
            for part in _exchanges(rest):
                _raise_refusal(exchange(talk, part))
            self._step(talk, _last_step(record, rewrite.name))
        except Refusal:
            exchange(talk, [pack("UNLINK", rewrite.name)])
            raise

    def _adapted(self, payload: bytes) -> bytes | None:
        rdb_type, version = payload[0], rdb_version(payload)
        if len(payload) > LARGE_BYTES and rdb_type not in (_STRING, _MODULE):
            return None
        if not loadable(rdb_type, self._target) or (rdb_type >= HASH_WITH_EXPIRY and version < _VALKEY_VERSION):
            return None
        return payload if payload[-10:-8] in self._plain else with_version(payload, self._version)

    def _step(self, talk: Talk, packed: Sequence[bytes]) -> None:
        """Commands that belong together. Where a slot is being imported they cannot be: then in turn."""
        if not self._together or talk.asking:
            _raise_refusal(exchange(talk, packed))
            return
        replies = exchange(talk, [pack("MULTI"), *packed, pack("EXEC")])
        _raise_refusal(replies[1:-1])
        _raise_refusal(replies)
        done = replies[-1]
        _raise_refusal(done if isinstance(done, list) else [])


def change_expiry(record: Record) -> bytes:
    """The packed command that gives the key there the record's expiry. Its reply is 1 when it did."""
    if record.expires_ms == NO_EXPIRY:
        return pack("PERSIST", record.key)
    return pack("PEXPIREAT", record.key, record.expires_ms)


def _last_step(record: Record, name: bytes) -> list[bytes]:
    """UNLINK first: RENAME would free what it replaces at once, and hold up everybody when that is large."""
    moved = [pack("UNLINK", record.key), pack("RENAME", name, record.key)]
    if record.expires_ms == NO_EXPIRY:
        return [*moved, pack("PERSIST", record.key)]
    return [*moved, pack("PEXPIREAT", record.key, record.expires_ms)]


def _exchanges(steps: Iterable[Sequence[bytes]]) -> Iterator[list[bytes]]:
    """Commands packed, in portions that do not fill anybody's buffers."""
    part, size = list[bytes](), 0
    for step in steps:
        part.append(pack(*step))
        size += len(part[-1])
        if size >= _EXCHANGE_BYTES or len(part) >= _EXCHANGE_COMMANDS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _raise_refusal(replies: Iterable[object]) -> None:
    for reply in replies:
        if isinstance(reply, Refusal):
            raise reply


__all__ = ["LARGE_BYTES", "TEMPORARY_PREFIX", "KeyWriter", "Rewrite", "Unrepresentable", "change_expiry"]
