"""PSYNC with one node, as a replica speaks it: its RDB stream, and the commands behind it, as bytes, never parsed.

Called by backup.copy_psync (the RDB alone) and follow.psync_stream (all).
Source: redis.io "Replication", src/replication.c: after `PSYNC ? -1` come newlines while the snapshot is made, then
`+FULLRESYNC <replid> <offset>`, then `$<length>` or, when the snapshot is sent while it is made, `$EOF:<40 bytes>`
with the same 40 bytes behind it; then commands, of which the first byte has the number offset + 1. `PSYNC <replid>
<offset + 1>` is answered by `+CONTINUE [<replid>]` where the source still has the bytes from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault

PIECE_BYTES = 1 << 20
_LINE_LIMIT_BYTES = 64 << 10
_MARK_BYTES = 40
_TAIL_BYTES = 9  # the opcode of the end, and CRC-64
_END_OPCODE = 0xFF
_MAGIC = (b"REDIS", b"VALKEY")


class Position(NamedTuple):
    """A place in a replication history: so many bytes of it lie before it. Written `<replid>:<offset>`."""

    replid: str
    offset: int

    def __str__(self) -> str:
        return f"{self.replid}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises ValueError."""
        replid, _, offset = text.rpartition(":")
        if not replid:
            raise ValueError(f"{text!r} is no position in a replication stream")
        return cls(replid, int(offset))


def rdb_pieces(connection: Connection, version: str, on_snapshot: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The file in pieces of at most 1 MiB. version: the source's own. on_snapshot: called when its first byte is there.

    Nothing else may be asked on this connection, then or later. Raises Refusal when PSYNC is refused, in the server's
    words; RemoteError when the stream breaks off or is no RDB file.
    """
    # From 7.0: the source keeps no replication buffer for us. Servers that do not know it refuse it.
    return Attached(connection, version, None, rdb_only=True).rdb(on_snapshot)


class Attached:
    """A connection on which PSYNC was answered. position: before the first byte of the commands.

    continued: they go on where they were asked for; else an RDB file comes first, and `rdb` has to be read to its end.
    """

    def __init__(
        self, connection: Connection, version: str, since: Position | None, *, rdb_only: bool = False, name: str = ""
    ) -> None:
        """since: to go on there; None: to begin. name: what INFO replication calls us, instead of our address.

        Raises Refusal when PSYNC is refused, in the server's words; RemoteError. Blocks while the source prepares its
        snapshot.
        """
        self.connection = connection
        # version, of Valkey: to a replica that does not say that it is as new as itself it writes an older RDB. Servers
        # that do not know a word refuse it.
        words: list[tuple[str | int, ...]] = [("capa", "eof", "capa", "psync2"), ("version", version)]
        words += [("rdb-only", 1)] * rdb_only + [("ip-address", name)] * bool(name)
        for line in words:
            connection.send(pack("REPLCONF", *line))
            connection.receive(1)
        connection.send(pack("PSYNC", since.replid, since.offset + 1) if since else pack("PSYNC", "?", "-1"))
        self._stream = _Stream(connection)
        answer = self._stream.line()
        what, *rest = answer.decode("utf-8", "replace").split(" ")
        if what == "+FULLRESYNC" and len(rest) == 2 and rest[1].isdigit():
            self.continued, self.position = False, Position(rest[0], int(rest[1]))
        elif what == "+CONTINUE" and since:
            # The source may have another history since, of which ours is the beginning.
            self.continued, self.position = True, Position(rest[0] if rest else since.replid, since.offset)
        else:
            raise Refusal(answer.lstrip(b"+-").decode("utf-8", "replace"))

    def rdb(self, on_snapshot: Callable[[], None] = lambda: None) -> Iterator[bytes]:
        """See rdb_pieces."""
        stream = self._stream
        announced = stream.line()
        if not announced.startswith(b"$"):
            raise Refusal(announced.lstrip(b"+-").decode("utf-8", "replace"))
        on_snapshot()
        endless = announced.startswith(b"$EOF:")
        pieces = stream.until(announced[5:]) if endless else stream.counted(int(announced[1:]))
        yield from proved(pieces, self.connection.address)

    def commands(self) -> bytes:
        """The next bytes of them, as they come. Raises RemoteError."""
        return self._stream.rest() or self.connection.receive_bytes()


def proved(pieces: Iterator[bytes], address: str) -> Iterator[bytes]:
    """An RDB file as far as it can be without parsing: the beginning, and the end. Raises RemoteError."""
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
        """Up to the mark. Behind it come commands."""
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
        last = bytes(self._buffer[:at])
        del self._buffer[: at + _MARK_BYTES]
        for start in range(0, at, PIECE_BYTES):
            yield last[start : start + PIECE_BYTES]

    def rest(self) -> bytes:
        """What has been read and not been given out."""
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            self._buffer += self._connection.receive_bytes()


def _broken(address: str, what: str) -> RemoteError:
    return RemoteError(RemoteFault.UNREACHABLE, f"{address}: {what}", "copy again, or use `--source scan`")
