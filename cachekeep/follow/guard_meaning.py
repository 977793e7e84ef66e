"""A value as 16 bytes that are equal for values that mean the same, whatever server and version wrote them. Pure."""

from __future__ import annotations

from hashlib import blake2b

from cachekeep.backup.compare import FOOTER_BYTES, living
from cachekeep.codec.dump import DumpError, StreamValue, Target, decode, digest, held_by
from cachekeep.domain.engine import Engine, EngineVersion

# A stream as servers before 7.0 know it: what they do not count cannot be compared with what newer ones count.
_PLAIN = Target(Engine.REDIS, EngineVersion.parse("6.2"))
_DIGEST_BYTES = 16
GONE = bytes(_DIGEST_BYTES)


def meaning(payload: bytes, now_ms: int) -> bytes:
    """Of a payload of DUMP, without fields whose time has come; GONE when nothing is left of it then.

    What cannot be read here (values of modules) is known by its bytes.
    """
    try:
        value = living(decode(payload, verify_checksum=False), now_ms)
    except DumpError:
        return blake2b(payload[:-FOOTER_BYTES], digest_size=_DIGEST_BYTES).digest()
    if value is None:
        return GONE
    return digest(held_by(value, _PLAIN) if isinstance(value, StreamValue) else value)
