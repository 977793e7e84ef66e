"""The last ten bytes of a payload of DUMP: the RDB version (u16) and the CRC-64 of all before it, little endian. Pure.

RESTORE refuses every payload with a version above its own, whatever its type; the same bytes under an older version
load wherever the type is known. Source: src/cluster.c createDumpPayload, verifyDumpPayload.
"""

from __future__ import annotations

from cachekeep.codec.dump.crc64 import crc64
from cachekeep.codec.dump.errors import DumpError

FOOTER_BYTES = 10
_LEAST_BYTES = FOOTER_BYTES + 2  # a type and something of it


def rdb_version(payload: bytes) -> int:
    """Return the RDB version that the footer names. The checksum is not looked at."""
    if len(payload) < _LEAST_BYTES:
        raise DumpError(f"{len(payload)} bytes are too few for a payload of DUMP")
    return int.from_bytes(payload[-10:-8], "little")


def check(payload: bytes) -> None:
    """Raise DumpError unless the payload is as the server wrote it."""
    if len(payload) < _LEAST_BYTES:
        raise DumpError(f"{len(payload)} bytes are too few for a payload of DUMP")
    named = int.from_bytes(payload[-8:], "little")
    if named != crc64(payload[:-8]):
        raise DumpError("the checksum of the payload is wrong: its bytes are not those that DUMP gave")


def with_version(payload: bytes, version: int) -> bytes:
    """Return the payload under another RDB version, with its checksum. The old checksum is proved first."""
    check(payload)
    return sealed(payload[:-FOOTER_BYTES], version)


def sealed(body: bytes, version: int) -> bytes:
    """Return a type byte and its value as a payload."""
    content = body + version.to_bytes(2, "little")
    return content + crc64(content).to_bytes(8, "little")
