"""Whether what a pass over all keys found otherwise is explained by announcements. Called by follow.lane."""

from __future__ import annotations

import time

from msgspec.structs import replace

from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.follow.crew import Crew, Member
from cachekeep.follow.key_source import KeySource
from cachekeep.follow.sweep import Sweep

_AT_ONCE = 500
_HYLL = b"HYLL"


def proved(sweep: Sweep, source: KeySource, crew: Crew, lane: Member) -> bool:
    """Look again at suspects, some at a time; True when none is left.

    Once every lane has handed over all that was announced until they were read, a key that is not known as it was read,
    and was not announced since the pass began, was missed. Then it is written. Raises RemoteError, BlobError.
    """
    if sweep.read:
        if not crew.has_passed(sweep.read_ms):
            return False
        unexplained = [one for one in sweep.read if not sweep.explains(one)]
        excused = [one for one in unexplained if _is_excused(one, crew) or sweep.is_unpacked(one)]
        missed = [one for one in unexplained if one not in excused]
        sweep.read = []
        if missed:
            lane.missed(len(missed))
        if missed or excused:
            sweep.missed(missed + excused, lane.name)
            # Another generation may know them better or not at all: there they are read again, as if announced.
            if len(crew.volumes()) > 1:
                lane.hear({(one.db, one.key): time.monotonic() for one in missed + excused})
    suspects = sweep.take_suspects(_AT_ONCE)
    for db in {db for db, _ in suspects}:
        keys = [key for at, key in suspects if at == db]
        records, refused = source.records(db, keys)
        sweep.read += stamped(db, keys, records, {key for key, _ in refused}, lane.now_ms())
    sweep.read_ms = lane.now_ms()
    if sweep.read:
        return False
    sweep.over()
    return True


def stamped(db: int, keys: list[bytes], records: list[Record], refused: set[bytes], moment_ms: int) -> list[Record]:
    """Records of that moment, and a tombstone for every key that is neither there nor refused."""
    there = {record.key for record in records} | refused
    gone = [key for key in keys if key not in there]
    found = [replace(record, captured_ms=moment_ms) for record in records]
    return found + [Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, moment_ms, key, b"") for key in gone]


def _is_excused(record: Record, crew: Crew) -> bool:
    """A HyperLogLog keeps its last count in its value: PFCOUNT changes it, and keyspace notifications say nothing."""
    return crew.method == "keyspace" and _HYLL in record.payload[:16]
