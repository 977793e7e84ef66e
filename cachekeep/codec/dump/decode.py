"""A payload of DUMP -> the value in it. Pure.

Everything that Redis to 7.2 and Valkey to 9.1 write is read. Memory is bounded by the payload: an announced count has
to fit in what is left, and compressed strings grow at most 88-fold. Nothing is recursive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cachekeep.codec.dump import containers, modules, streams
from cachekeep.codec.dump.errors import DumpError
from cachekeep.codec.dump.footer import FOOTER_BYTES, check, rdb_version
from cachekeep.codec.dump.reader import Reader
from cachekeep.codec.dump.values import IllegalValue, StringValue, Value

# From type 22 on, Redis (RDB 12 to 79) and Valkey (80 and above) gave the numbers different meanings.
FIRST_TYPE_OF_VALKEY = 22
FIRST_VERSION_OF_VALKEY = 80


def decode(payload: bytes, *, verify_checksum: bool = True) -> Value:
    """Return the value. Raises DumpError for any bytes that are not a payload of a type that this codec reads.

    verify_checksum: False where the bytes were proved by other means; a checksum costs as much as a small value.
    """
    if verify_checksum:
        check(payload)
    version = rdb_version(payload)
    rdb_type = payload[0]
    decoder = _DECODERS.get(rdb_type)
    if decoder is None or (rdb_type >= FIRST_TYPE_OF_VALKEY and version < FIRST_VERSION_OF_VALKEY):
        raise DumpError(f"type {rdb_type} of RDB version {version} is not known")
    reader = Reader(payload, 1, len(payload) - FOOTER_BYTES)
    try:
        value = decoder(reader)
    except IllegalValue as error:
        raise DumpError(str(error)) from None
    if reader.at != reader.end:
        raise DumpError(f"{reader.end - reader.at} bytes follow the value")
    return value


def _string(reader: Reader) -> StringValue:
    return StringValue(reader.string())


_DECODERS: Mapping[int, Callable[[Reader], Value]] = {
    0: _string,
    1: containers.linked_list,
    2: containers.hashtable_set,
    3: containers.sorted_set,
    4: containers.hashtable_hash,
    5: containers.sorted_set_2,
    6: modules.module_before_opcodes,
    7: modules.module,
    9: containers.zipmap_hash,
    10: containers.ziplist_list,
    11: containers.intset_set,
    12: containers.ziplist_sorted_set,
    13: containers.ziplist_hash,
    14: containers.quicklist,
    15: streams.stream_1,
    16: containers.listpack_hash,
    17: containers.listpack_sorted_set,
    18: containers.quicklist_2,
    19: streams.stream_2,
    20: containers.listpack_set,
    21: streams.stream_3,
    22: containers.volatile_hash,
}
