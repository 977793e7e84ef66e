"""Is what the endpoint has what the backup says? Value, expiry and type of one key. Pure.

Called for every key by restore, verify and diff. Nearly all are equal byte for byte; the others are read and compared
by meaning: servers write the same value in different ways (the order of sets and hashes, encodings of their version).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.backup.tables import TABLES, same_table
from cachekeep.codec.dump import (
    DumpError,
    HashValue,
    SetValue,
    Target,
    Value,
    canonical,
    decode,
    held_by,
)
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import Refusal

FOOTER_BYTES = 10
_INEXACT_MS = 50
HASH_WITH_EXPIRY = 22  # from this type on, Redis and Valkey give the numbers different meanings
_FAMILY = {
    **dict.fromkeys((0,), "string"),
    **dict.fromkeys((1, 10, 14, 18), "list"),
    **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "zset"),
    **dict.fromkeys((4, 9, 13, 16, 22), "hash"),
    **dict.fromkeys((15, 19, 21), "stream"),
    **dict.fromkeys((6, 7), "module"),
}


class Verdict(IntEnum):
    """About one key of the backup. UNREAD: the endpoint refused to show it. ABSENT: the backup says it is deleted.

    EXPIRED: its time has come, here and there. OUTLIVED: its time has come, and the endpoint has a key of that name.
    """

    SAME = 0
    VALUE = 1
    EXPIRY = 2
    TYPE = 3
    MISSING = 4
    EXPIRED = 5
    ABSENT = 6
    UNREAD = 7
    OUTLIVED = 8


@dataclass(frozen=True)
class Judge:
    """Judges for one endpoint. tolerance_ms: of expiries, which not every server tells exactly."""

    target: Target
    tolerance_ms: int = 0

    def verdict(self, record: Record, theirs: bytes | Refusal | None, expires_ms: int, now_ms: int) -> Verdict:
        """theirs: the payload of DUMP there; now_ms: by the endpoint's clock when it was read."""
        if record.kind == Kind.TOMBSTONE:
            return Verdict.ABSENT
        if NO_EXPIRY != record.expires_ms <= now_ms or is_spent(record.payload, now_ms):
            return Verdict.EXPIRED if theirs is None else Verdict.OUTLIVED
        if isinstance(theirs, Refusal):
            return Verdict.UNREAD
        if theirs is None:
            return Verdict.MISSING
        if not self.same_value(record.payload, theirs, now_ms):
            return Verdict.VALUE if _FAMILY.get(record.payload[0]) == _FAMILY.get(theirs[0]) else Verdict.TYPE
        return Verdict.SAME if self.same_expiry(record.expires_ms, expires_ms) else Verdict.EXPIRY

    def same_expiry(self, ours: int, theirs: int) -> bool:
        """Both never, or within the tolerance; never and a moment are always different."""
        if ours == theirs:
            return True
        return NO_EXPIRY not in (ours, theirs) and abs(ours - theirs) <= self.tolerance_ms

    def same_value(self, ours: bytes, theirs: bytes, now_ms: int) -> bool:
        """By bytes, else by meaning: as far as the endpoint can hold it, and without fields whose time has come."""
        if ours == theirs:
            return True
        if ours[0] < HASH_WITH_EXPIRY and ours[:-FOOTER_BYTES] == theirs[:-FOOTER_BYTES]:
            return True
        if ours[0] == theirs[0] and ours[0] in TABLES and same_table(ours, theirs):
            return True
        if ours[0] != theirs[0] and _FAMILY.get(ours[0]) != _FAMILY.get(theirs[0]):
            return False
        try:
            one = decode(ours, verify_checksum=False)
            other = decode(theirs, verify_checksum=False)
        except DumpError:
            return False
        return same_meaning(one, other, self.target, now_ms)


def tolerance_of(survey: Survey) -> int:
    """In ms: 0 where expiries are told exactly; where PTTL and a clock have to do, the time of an exchange."""
    return 0 if survey.can(Ability.PEXPIRETIME) or survey.can(Ability.SCRIPTS) else _INEXACT_MS


def same_meaning(one: Value, other: Value, target: Target, now_ms: int) -> bool:
    """`canonical(held_by(one)) == canonical(other)`, with shorter ways for what is common."""
    if isinstance(one, SetValue) and isinstance(other, SetValue):
        return one.members == other.members
    if isinstance(one, HashValue) and isinstance(other, HashValue):
        return _fields(one, now_ms) == _fields(other, now_ms)
    return canonical(held_by(one, target)) == canonical(other)


def living(value: Value, now_ms: int) -> Value | None:
    """The value without fields of a hash whose time has come; None when nothing is left."""
    if not isinstance(value, HashValue):
        return value
    fields = tuple(field for field in value.fields if field[2] is None or field[2] > now_ms)
    if len(fields) == len(value.fields):
        return value
    return replace(value, fields=fields) if fields else None


def is_spent(payload: bytes, now_ms: int) -> bool:
    """True for a hash of which every field has expired."""
    if not payload or payload[0] != HASH_WITH_EXPIRY:
        return False
    try:
        return living(decode(payload, verify_checksum=False), now_ms) is None
    except DumpError:
        return False


def _fields(value: HashValue, now_ms: int) -> frozenset[tuple[bytes, bytes, int | None]]:
    return frozenset(field for field in value.fields if field[2] is None or field[2] > now_ms)
