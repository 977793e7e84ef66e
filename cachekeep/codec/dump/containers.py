"""Lists, sets, sorted sets and hashes in every encoding of RDB -> values. Pure; called by `decode`.

The type byte names the encoding. A server's limits (hash-max-listpack-entries, ...) decide which one it writes, and
none of it is part of the value. Source: src/rdb.c rdbLoadObject.
"""

from __future__ import annotations

from cachekeep.codec.dump.errors import DumpError
from cachekeep.codec.dump.packed import intset, listpack, ziplist, zipmap
from cachekeep.codec.dump.reader import Reader, score_of
from cachekeep.codec.dump.values import HashValue, IllegalValue, ListValue, SetValue, SortedSetValue

_PLAIN, _PACKED = 1, 2
_NO_EXPIRY = -1


def linked_list(reader: Reader) -> ListValue:
    """Type 1: the elements one by one (before 3.2)."""
    string = reader.string
    return ListValue(tuple([string() for _ in range(reader.count(1))]))


def ziplist_list(reader: Reader) -> ListValue:
    """Type 10: one ziplist (before 3.2)."""
    return ListValue(tuple(ziplist(reader.string())))


def quicklist(reader: Reader) -> ListValue:
    """Type 14: nodes, each a ziplist (3.2 to 6.2)."""
    items: list[bytes] = []
    for _ in range(reader.count(1)):
        items += ziplist(reader.string())
    return ListValue(tuple(items))


def quicklist_2(reader: Reader) -> ListValue:
    """Type 18: nodes, each a listpack, or plain: one large element as it is (since 7.0)."""
    items: list[bytes] = []
    for _ in range(reader.count(2)):
        container = reader.length()
        node = reader.string()
        if container == _PACKED:
            items += listpack(node)
        elif container == _PLAIN:
            items.append(node)
        else:
            raise DumpError(f"no node of a list is in a container {container}")
    return ListValue(tuple(items))


def hashtable_set(reader: Reader) -> SetValue:
    """Type 2: the members one by one, in the order of a hash table that is another one on each server."""
    string = reader.string
    return _set_of([string() for _ in range(reader.count(1))])


def intset_set(reader: Reader) -> SetValue:
    """Type 11: integers only."""
    return _set_of(intset(reader.string()))


def listpack_set(reader: Reader) -> SetValue:
    """Type 20 (since 7.2)."""
    return _set_of(listpack(reader.string()))


def sorted_set(reader: Reader) -> SortedSetValue:
    """Type 3: members with scores as text (before 4.0)."""
    string, score = reader.string, reader.double_text
    return SortedSetValue(tuple([(string(), score()) for _ in range(reader.count(2))]))


def sorted_set_2(reader: Reader) -> SortedSetValue:
    """Type 5: members with scores as binary doubles (since 4.0)."""
    string, score = reader.string, reader.double
    return SortedSetValue(tuple([(string(), score()) for _ in range(reader.count(9))]))


def ziplist_sorted_set(reader: Reader) -> SortedSetValue:
    """Type 12: member and score in turn (before 7.0)."""
    return _sorted_set_of(ziplist(reader.string()))


def listpack_sorted_set(reader: Reader) -> SortedSetValue:
    """Type 17: member and score in turn (since 7.0)."""
    return _sorted_set_of(listpack(reader.string()))


def hashtable_hash(reader: Reader) -> HashValue:
    """Type 4: field and value one by one."""
    string = reader.string
    return HashValue(tuple([(string(), string(), None) for _ in range(reader.count(2))]))


def volatile_hash(reader: Reader) -> HashValue:
    """Type 22: field, value and the moment it expires in ms, -1 for never (Valkey 9.0; Redis means another thing).

    A hash with a field that expires is always written so: a listpack holds no expiry.
    """
    string, milliseconds = reader.string, reader.milliseconds
    fields = []
    for _ in range(reader.count(10)):
        field, value, expire_ms = string(), string(), milliseconds()
        if expire_ms < _NO_EXPIRY:
            raise DumpError(f"a field of a hash expires at {expire_ms} ms")
        fields.append((field, value, None if expire_ms == _NO_EXPIRY else expire_ms))
    return HashValue(tuple(fields))


def zipmap_hash(reader: Reader) -> HashValue:
    """Type 9 (before 2.6)."""
    return _hash_of(zipmap(reader.string()))


def ziplist_hash(reader: Reader) -> HashValue:
    """Type 13: field and value in turn (before 7.0)."""
    return _hash_of(ziplist(reader.string()))


def listpack_hash(reader: Reader) -> HashValue:
    """Type 16: field and value in turn (since 7.0)."""
    return _hash_of(listpack(reader.string()))


def _set_of(members: list[bytes]) -> SetValue:
    distinct = frozenset(members)
    if len(distinct) != len(members):
        raise IllegalValue("a member of a set stands twice")
    return SetValue(distinct)


def _sorted_set_of(elements: list[bytes]) -> SortedSetValue:
    scores = [score_of(text) for text in elements[1::2]]
    return SortedSetValue(tuple(zip(elements[::2], scores, strict=_in_pairs(elements))))


def _hash_of(elements: list[bytes]) -> HashValue:
    nones = [None] * (len(elements) // 2)
    return HashValue(tuple(zip(elements[::2], elements[1::2], nones, strict=_in_pairs(elements))))


def _in_pairs(elements: list[bytes]) -> bool:
    if len(elements) % 2:
        raise IllegalValue("a packed hash or sorted set holds half a pair")
    return True
