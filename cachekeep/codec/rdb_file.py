"""An RDB file from payloads of DUMP. Pure: makes bytes in order, writes nothing. Called by backup.export_files.

A payload is a type byte, the value as RDB has it, and a footer: without the footer it goes into the file as it is,
with its key behind the type. Databases may come in any order and more than once; a key must not come twice, because
the engine refuses such a file. Source: src/rdb.c rdbSaveRio, rdbLoadRio; headers as servers of 6.2 to 9.1 wrote them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from cachekeep.codec.dump import Checksum, DumpError, Target, Unrepresentable, decode, encode, loadable, rdb_version
from cachekeep.codec.dump.decode import FIRST_VERSION_OF_VALKEY
from cachekeep.codec.dump.footer import FOOTER_BYTES, check
from cachekeep.codec.dump.writing import length, string

NO_EXPIRY = -1
_FUNCTIONS_SINCE = 10
_AUX, _FUNCTION, _EXPIRE_MS, _SELECT, _END = 0xFA, 0xF5, 0xFC, 0xFE, 0xFF
_FIRST_VERSION_OF_REDIS_ALONE = 12
_MOMENT = struct.Struct("<Bq")


class RdbFile:
    """The bytes of one file, piece by piece: `begin`, then functions and records, then `end`."""

    def __init__(self, version: int, target: Target | None = None) -> None:
        """version: of RDB, in the header. target: what is to load it; values that it cannot are encoded anew."""
        self._version, self._target = version, target
        self._checksum = Checksum()
        self._db: int | None = None

    def begin(self, auxiliary: Mapping[str, str]) -> bytes:
        """The header. auxiliary: such as `redis-ver` and `ctime`; servers log them and load nothing from them."""
        magic = "VALKEY" if self._version >= FIRST_VERSION_OF_VALKEY else "REDIS"
        fields = (bytes((_AUX,)) + string(name.encode()) + string(text.encode()) for name, text in auxiliary.items())
        return self._counted(f"{magic}{self._version:0{9 - len(magic)}}".encode() + b"".join(fields))

    def functions(self, payload: bytes) -> bytes:
        """What FUNCTION DUMP gave. Raises Unrepresentable before RDB 10, DumpError."""
        if len(payload) <= FOOTER_BYTES:
            return b""
        check(payload)
        if self._version < _FUNCTIONS_SINCE:
            raise Unrepresentable(f"RDB {self._version} has no functions: Redis 7.0 is the first")
        if payload[0] != _FUNCTION:
            raise DumpError("these are not functions")
        return self._counted(payload[:-FOOTER_BYTES])

    def record(self, db: int, key: bytes, expires_ms: int, payload: bytes) -> bytes:
        """Raises Unrepresentable, DumpError: then nothing of the key belongs into the file."""
        check(payload)
        fitting = payload if self._fits(payload) else encode(decode(payload, verify_checksum=False), self._version)
        parts = []
        if db != self._db:
            parts.append(bytes((_SELECT,)) + length(db))
        if expires_ms != NO_EXPIRY:
            parts.append(_MOMENT.pack(_EXPIRE_MS, expires_ms))
        parts += (fitting[:1], string(key), fitting[1:-FOOTER_BYTES])
        self._db = db
        return self._counted(b"".join(parts))

    def end(self) -> bytes:
        """The end mark and the checksum of everything."""
        mark = self._counted(bytes((_END,)))
        return mark + self._checksum.value().to_bytes(8, "little")

    def _fits(self, payload: bytes) -> bool:
        """True when the value can stand as it is in a file of this version."""
        named = rdb_version(payload)
        # From type 22 on, the numbers of Redis 7.4 and newer mean other things than Valkey's.
        of_redis_alone = _FIRST_VERSION_OF_REDIS_ALONE <= named < FIRST_VERSION_OF_VALKEY
        if named <= self._version and not (of_redis_alone and self._version >= FIRST_VERSION_OF_VALKEY):
            return True
        return self._target is not None and loadable(payload[0], self._target) and payload[0] < 22

    def _counted(self, data: bytes) -> bytes:
        self._checksum.update(data)
        return data
