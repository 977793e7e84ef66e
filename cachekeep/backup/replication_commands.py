"""The replication stream of a backup, cut as it came, as whole commands up to a moment. Pure but for `timed_pieces`.

What is for replicas and not for the data is left out: PING, REPLCONF, CLUSTER, PUBLISH, SPUBLISH. A transaction comes
whole or not at all. Called by backup.scratch_lanes and backup.export_aof.

Source: redis.io "Replication"; src/replication.c: a primary sends each command as an array of bulk strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cachekeep.backup.absolute_expiries import NAMES, with_absolute_expiry
from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.catalog_chain import Place
from cachekeep.backup.coverage import last_entry_for
from cachekeep.backup.reader import GenerationReader

_FOR_REPLICAS = frozenset((b"PING", b"REPLCONF", b"CLUSTER", b"PUBLISH", b"SPUBLISH"))
_DROP, _BEGIN, _END, _RELATIVE = b"dropped", b"MULTI", b"EXEC", b"relative"
_SPECIAL = dict.fromkeys(_FOR_REPLICAS, _DROP) | {_BEGIN: _BEGIN, _END: _END}
_SPECIAL_BEFORE_7 = _SPECIAL | dict.fromkeys(NAMES, _RELATIVE)
_LONGEST = max(map(len, _SPECIAL_BEFORE_7))
_KEPT = 100_000
_LINE_BYTES = 32  # of `*3` and `$512`, more than enough
_ADVICE = "restore an earlier moment, or read it as far as it is whole"


def whole_commands(
    pieces: Iterable[tuple[int, bytes]], until_ms: int | None = None, *, relative: bool = False
) -> Iterator[bytes]:
    """The commands in RESP, joined. pieces: when each came (ms, never falling) and its bytes, in order.

    until_ms: those that had come whole by then; None: all that are whole. relative: the stream is of an engine before
    7.0, which tells the time that keys have left; see absolute_expiries. Raises CatalogError(DAMAGED) for bytes that
    are no command.
    """
    return (data for _, data in timed_commands(pieces, until_ms, relative=relative))


def timed_commands(
    pieces: Iterable[tuple[int, bytes]], until_ms: int | None = None, *, relative: bool = False
) -> Iterator[tuple[int, bytes]]:
    """The same with the moment at which the last byte of each run of commands came."""
    framer = _Framer(_SPECIAL_BEFORE_7 if relative else _SPECIAL)
    for came_ms, data in pieces:
        if until_ms is not None and came_ms > until_ms:
            return
        if commands := framer.feed(data, came_ms):
            yield came_ms, commands


def timed_pieces(reader: GenerationReader, lane: str, until_ms: int | None = None) -> Iterator[tuple[int, bytes]]:
    """What one lane's stream is kept as. Pieces later than until_ms are left out, and segments without earlier ones.

    Raises CatalogError(DAMAGED) where anything that the moment needs is not whole, also when the reader skips damage:
    a stream without its middle means something else. SegmentError, BlobError.
    """
    number = found = promised = 0
    last = None if until_ms is None else last_entry_for(reader.chain.entries, until_ms)

    def check() -> None:
        if found != promised:
            what = f"{reader.name}: entry {number} of a replication stream has lost some of its bytes"
            raise CatalogError(CatalogFault.DAMAGED, what, _ADVICE)

    def wanted(place: Place) -> bool:
        nonlocal number, found, promised
        if last is not None and place.number > last:
            return False
        entry = place.entry
        if entry is None:
            what = f"{reader.name}: entry {place.number} of a replication stream is damaged, and with it whose it is"
            raise CatalogError(CatalogFault.DAMAGED, what, _ADVICE)
        if entry.lane != lane or entry.first_ms is None:  # of another one, or without any record
            return False
        if until_ms is not None and entry.first_ms > until_ms:
            return False
        check()  # of the one before: it has been read
        number, found, promised = place.number, 0, entry.records
        return True

    for _, records in reader.numbered(("commands",), wanted):
        found += len(records)
        for record in records:
            if until_ms is None or record.captured_ms <= until_ms:
                yield record.captured_ms, record.payload
    check()


class _Framer:
    """Bytes in, whole commands out. Holds what is not whole: half a command, a transaction without its EXEC.

    special: names of commands, and what is special about each.
    """

    def __init__(self, special: Mapping[bytes, bytes]) -> None:
        self._kinds = _Kinds(special)
        self._waiting: list[bytes] = []
        self._have = self._need = 0  # bytes that wait, and how many there have to be before it is worth a look
        self._transaction: list[bytes] | None = None

    def feed(self, data: bytes, came_ms: int) -> bytes:
        """What became whole, without what is for replicas."""
        self._waiting.append(data)
        self._have += len(data)
        if self._have < self._need:
            return b""
        buffer = b"".join(self._waiting) if len(self._waiting) > 1 else data
        kinds, find, arrays, bulks = self._kinds, buffer.find, _ARRAYS, _BULKS
        whole: list[bytes] = []
        into = whole if self._transaction is None else self._transaction
        kept = at = 0
        size = len(buffer)
        need = 0
        try:
            while at < size:
                # All that is done per command is done here: a call for each would take half of the time.
                line = find(b"\n", at)
                if line < 0:
                    need = _line_to_come(at, size)
                    break
                end = line + 1
                for number in range(arrays[buffer[at:line]]):
                    line = find(b"\n", end)
                    if line < 0:
                        need = _line_to_come(end, size)
                        break
                    end = line + bulks[buffer[end:line]] + 3
                    if number == 0:
                        kind = kinds[buffer[line + 1 : min(end - 2, line + 2 + _LONGEST)]]
                need = max(need, end)
                if need > size:
                    break
                if kind is not None:
                    into.append(buffer[kept:at])
                    kept = end
                    into = self._special(kind, buffer[at:end], came_ms, whole)
                at = end
        except ValueError:
            what = f"the replication stream has bytes that are no command: {buffer[at : at + 40]!r}"
            raise CatalogError(CatalogFault.DAMAGED, what, _ADVICE) from None
        into.append(buffer[kept:at])
        self._waiting, self._have, self._need = [buffer[at:]], size - at, need - at
        return b"".join(whole)

    def _special(self, kind: bytes, command: bytes, came_ms: int, whole: list[bytes]) -> list[bytes]:
        """Deal with it; returns where what follows belongs."""
        into = whole if self._transaction is None else self._transaction
        if kind is _BEGIN:
            self._transaction = into = [command]
        elif kind is _END:
            into.append(command)
            if self._transaction is not None:
                whole += self._transaction
            self._transaction, into = None, whole
        elif kind is _RELATIVE:
            into.append(with_absolute_expiry(command, came_ms))
        return into


def _line_to_come(start: int, size: int) -> int:
    """More than there is, for a line that has no end yet. Raises ValueError for one that is too long."""
    if size - start > _LINE_BYTES:
        raise ValueError
    return max(start, size) + 1


class _Numbers(dict[bytes, int]):
    """The number in a line such as `$512` and a CR: few are different, and to look one up takes a third of the time."""

    def __init__(self, mark: bytes) -> None:
        super().__init__()
        self._mark = mark

    def __missing__(self, line: bytes) -> int:
        number = int(line[1:])
        if not (line.startswith(self._mark) and line.endswith(b"\r") and len(line) < _LINE_BYTES and number >= 0):
            raise ValueError
        if len(self) > _KEPT:
            self.clear()
        self[line] = number
        return number


class _Kinds(dict[bytes, bytes | None]):
    """What is special about a command of this name, in capitals or not; None: nothing."""

    def __init__(self, special: Mapping[bytes, bytes]) -> None:
        super().__init__()
        self._special = special

    def __missing__(self, name: bytes) -> bytes | None:
        kind = self._special.get(name.upper())
        if len(self) > _KEPT:
            self.clear()
        self[name] = kind
        return kind


_ARRAYS, _BULKS = _Numbers(b"*"), _Numbers(b"$")
