"""The beginning of an RDB file: who wrote it, in which version, and how many keys its first database has. Pure.

Before the first key come auxiliary fields, functions, and for each database its number and the sizes of its tables,
expired keys included. Source: src/rdb.c rdbSaveRio, rdbSaveDb; headers as servers of 6.2 to 9.1 wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cachekeep.codec.dump.errors import DumpError, Unrepresentable
from cachekeep.codec.dump.reader import Reader
from cachekeep.codec.dump.targets import Target, rdb_version_of
from cachekeep.domain.engine import Engine, EngineVersion

_MAGICS = (b"REDIS", b"VALKEY")
_MAGIC_BYTES = 9
_AUX, _FUNCTION, _RESIZE, _SELECT = 0xFA, 0xF5, 0xFB, 0xFE
# The last RDB version that Redis and Valkey share; above it each goes its own way.
_SHARED = 11


@dataclass(frozen=True)
class RdbHead:
    """rdb_version: 11, 80. writer: engine and version by the file's own words, None where it does not tell.

    db, keys: of the first database; None where the file has no key, or says so behind what was read of it.
    """

    rdb_version: int
    writer: tuple[Engine, EngineVersion] | None = None
    db: int | None = None
    keys: int | None = None


def read_rdb_head(data: bytes) -> RdbHead:
    """data: the file's first bytes, a mebibyte or so. Raises DumpError when they are not those of an RDB file."""
    magic = next((magic for magic in _MAGICS if data.startswith(magic)), None)
    digits = data[len(magic) : _MAGIC_BYTES] if magic else b""
    if not digits.isdigit():
        raise DumpError(f"it begins with {data[:9]!r}, which is no RDB file")
    auxiliary: dict[bytes, bytes] = {}
    db, keys = None, None
    reader = Reader(data, _MAGIC_BYTES, len(data))
    try:
        while (code := reader.take(1)[0]) in (_AUX, _FUNCTION, _SELECT, _RESIZE):
            if code == _AUX:
                name = reader.string()
                auxiliary[name] = reader.string()
            elif code == _FUNCTION:
                reader.string()
            elif code == _SELECT:
                db = reader.length()
            else:
                keys = reader.length()
                break
    except DumpError:
        # What follows is behind the end of what was given.
        keys = None
    return RdbHead(int(digits), _writer(auxiliary), db, keys)


def _writer(auxiliary: dict[bytes, bytes]) -> tuple[Engine, EngineVersion] | None:
    for name, engine in ((b"valkey-ver", Engine.VALKEY), (b"redis-ver", Engine.REDIS)):
        text = auxiliary.get(name, b"").decode("ascii", "replace")
        try:
            return engine, EngineVersion.parse(text)
        except ValueError:
            continue
    return None


def why_not_loaded(engine: Engine, version: EngineVersion, writer: Engine, rdb_version: int) -> str | None:
    """Why an engine does not load a file that `writer` wrote in that version, as a sentence; None when it does.

    Source: RDB_VERSION of each release; Redis 7.4 and 8 write 12, which no Valkey loads, and Valkey 9 writes 80.
    """
    try:
        newest = rdb_version_of(Target(engine, version))
    except (Unrepresentable, ValueError) as error:
        return str(error)
    if engine is Engine.REDIS and version >= EngineVersion((7, 4)):
        newest = max(newest, 12)
    if rdb_version > newest:
        return f"it is of RDB version {rdb_version}, and {engine.label} {version} loads at most {newest}"
    if rdb_version > _SHARED and engine is not writer:
        return f"its RDB version {rdb_version} is {writer.label}'s own, which {engine.label} does not load"
    return None
