"""Values as Valkey and Redis give them with DUMP: read, compare, and write elsewhere. Pure; called by backups.

DUMP is a type byte, the value as in an RDB file, and a footer of RDB version and CRC-64. A newer server loads what an
older one dumped. The other way round there are two roads: `with_version` where `loadable`, else `commands`.
Read from src/rdb.c, listpack.c, ziplist.c, intset.c, zipmap.c, t_stream.c of Redis 6.2 and 7.0, Valkey 8.1 and 9.1.
"""

from __future__ import annotations

from cachekeep.codec.dump.canonical import canonical, digest, held_by
from cachekeep.codec.dump.checksum import Checksum
from cachekeep.codec.dump.commands import commands
from cachekeep.codec.dump.crc64 import crc64
from cachekeep.codec.dump.decode import decode
from cachekeep.codec.dump.encode import PayloadBuilder, encode, least_version
from cachekeep.codec.dump.errors import DumpError, Unrepresentable
from cachekeep.codec.dump.footer import rdb_version, with_version
from cachekeep.codec.dump.targets import Target, loadable, rdb_version_of
from cachekeep.codec.dump.values import (
    Consumer,
    HashValue,
    IllegalValue,
    ListValue,
    ModuleValue,
    Pending,
    SetValue,
    SortedSetValue,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
)

__all__ = [
    "Checksum",
    "Consumer",
    "DumpError",
    "HashValue",
    "IllegalValue",
    "ListValue",
    "ModuleValue",
    "PayloadBuilder",
    "Pending",
    "SetValue",
    "SortedSetValue",
    "StreamEntry",
    "StreamGroup",
    "StreamId",
    "StreamValue",
    "StringValue",
    "Target",
    "Unrepresentable",
    "Value",
    "canonical",
    "commands",
    "crc64",
    "decode",
    "digest",
    "encode",
    "held_by",
    "least_version",
    "loadable",
    "rdb_version",
    "rdb_version_of",
    "with_version",
]
