"""The RDB stream of one node, as it would go to a replica: found, measured, never parsed. Called by backup.copy.

Source: redis.io "Replication", src/replication.c: after `PSYNC ? -1` come newlines while the snapshot is made, then
`+FULLRESYNC <run id> <offset>`, then `$<length>` or, when the snapshot is sent while it is made, `$EOF:<40 bytes>`
with the same 40 bytes behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault

PIECE_BYTES = 1 << 20
_LINE_LIMIT_BYTES = 64 << 10
_MARK_BYTES = 40
_TAIL_BYTES = 9  # the opcode of the end, and CRC-64
_END_OPCODE = 0xFF
_MAGIC = (b"REDIS", b"VALKEY")


def rdb_pieces(connection: Connection, version: str, on_snapshot: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The file in pieces of at most 1 MiB. version: the source's own. on_snapshot: called when its first byte is there.

    Nothing else may be asked on this connection, then or later. Raises Refusal when PSYNC is refused, in the server's
    words; RemoteError when the stream breaks off or is no RDB file.
    """
    # rdb-only, from 7.0: the source keeps no replication buffer for us. version, of Valkey: to a replica that does not
    # say that it is as new as itself it writes an older RDB. Servers that do not know a word refuse it.
    for words in (("capa", "eof", "capa", "psync2"), ("version", version), ("rdb-only", 1)):
        connection.send(pack("REPLCONF", *words))
        connection.receive(1)
    connection.send(pack("PSYNC", "?", "-1"))
    stream = _Stream(connection)
    answer = stream.line()
    if not answer.startswith(b"+FULLRESYNC"):
        text = answer.lstrip(b"+-").decode("utf-8", "replace")
        raise Refusal(text)
    announced = stream.line()
    if not announced.startswith(b"$"):
        raise Refusal(announced.lstrip(b"+-").decode("utf-8", "replace"))
    on_snapshot()
    endless = announced.startswith(b"$EOF:")
    pieces = stream.until(announced[5:]) if endless else stream.counted(int(announced[1:]))
    yield from _proved(pieces, connection.address)


def _proved(pieces: Iterator[bytes], address: str) -> Iterator[bytes]:
    """As far as it can be without parsing: the beginning, and the end."""
    first, tail = True, b""
    for piece in pieces:
        if first and not piece.startswith(_MAGIC):
            raise _broken(address, f"what it sent is no RDB file: it begins with {piece[:9]!r}")
        first, tail = False, (tail + piece)[-_TAIL_BYTES:]
        yield piece
    if len(tail) < _TAIL_BYTES or tail[0] != _END_OPCODE:
        raise _broken(address, "the RDB file that it sent has no end")


class _Stream:
    """The bytes behind PSYNC. A keep-alive is a newline of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def line(self) -> bytes:
        """The next line that is not empty, without its end."""
        while True:
            at = self._buffer.find(b"\n")
            if at < 0:
                if len(self._buffer) > _LINE_LIMIT_BYTES:
                    raise _broken(self._connection.address, "what it answered to PSYNC is no line")
                self._buffer += self._connection.receive_bytes()
                continue
            found = bytes(self._buffer[:at]).strip()
            del self._buffer[: at + 1]
            if found:
                return found

    def counted(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            self._fill(min(left, PIECE_BYTES))
            piece = bytes(memoryview(self._buffer)[: min(left, PIECE_BYTES)])
            del self._buffer[: len(piece)]
            left -= len(piece)
            yield piece

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Up to the mark. Behind it may come commands, which are not read."""
        if len(mark) != _MARK_BYTES:
            raise _broken(self._connection.address, f"its mark for the end has {len(mark)} bytes")
        searched = 0
        while (at := self._buffer.find(mark, max(0, searched - _MARK_BYTES))) < 0:
            searched = len(self._buffer)
            if searched >= PIECE_BYTES + _MARK_BYTES:
                yield bytes(memoryview(self._buffer)[:PIECE_BYTES])
                del self._buffer[:PIECE_BYTES]
                searched -= PIECE_BYTES
            self._buffer += self._connection.receive_bytes()
        for start in range(0, at, PIECE_BYTES):
            yield bytes(memoryview(self._buffer)[start : min(at, start + PIECE_BYTES)])

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            self._buffer += self._connection.receive_bytes()


def _broken(address: str, what: str) -> RemoteError:
    return RemoteError(RemoteFault.UNREACHABLE, f"{address}: {what}", "copy again, or use `--source scan`")
