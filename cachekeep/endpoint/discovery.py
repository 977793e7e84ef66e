"""The configuration endpoint of a memcached cluster: `python -m cachekeep.endpoint.discovery FOLDER`.

A program of its own, one per cluster, that the host runs like an engine. It answers the two commands by which
ElastiCache clients learn the members, and passes everything else on to the first member that accepts, because
clients use the configuration endpoint as a node until they have learned the members.

FOLDER holds responder.json {"host", "port", "version"}, read once, and members.json {"version", "members"},
read again whenever it was replaced; with --tls behind FOLDER also node.pem and ca.pem: it is spoken to by TLS then,
and speaks so to members. Standard library only, to stay small.
Source of the replies: ElastiCache guide "Adding auto discovery to your client library".
"""

from __future__ import annotations

import sys

# asyncio does without ssl where Python has none. 4.5 of 20 MiB per responder are only there for it.
if __name__ == "__main__" and "--tls" not in sys.argv:
    sys.modules["ssl"] = None  # type: ignore[assignment]

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path

LINE_LIMIT = 256 * 1024
CONNECTION_LIMIT = 1024
CONNECT_TIMEOUT_S = 1.0
RENEWAL_LOOK_S = 1.0
DRAIN_TIMEOUT_S = 5.0
_CHUNK = 64 * 1024
_MAGIC_BINARY = b"\x80"
# Digits of a length that is believed; a longer word is no length.
_LONGEST_NUMBER = 10
# Commands that a block of data follows, and which word of the line tells its length.
_LENGTH_AT = {b"set": 4, b"add": 4, b"replace": 4, b"append": 4, b"prepend": 4, b"cas": 4, b"ms": 2}


class Members:
    """What members.json announces now."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "members.json"
        self._seen: tuple[int, int] | None = None
        self.version = 0
        self.addresses: list[tuple[str, int]] = []

    def refresh(self) -> None:
        """Read the file again if it was replaced; keep the last good content when it cannot be read."""
        with suppress(OSError, ValueError, KeyError):
            stat = self._path.stat()
            # The inode too: two replacements may fall into one tick of the clock.
            if (stat.st_mtime_ns, stat.st_ino) == self._seen:
                return
            announced = json.loads(self._path.read_text(encoding="utf-8"))
            addresses = [(str(host), int(port)) for host, port in announced["members"]]
            self.version, self.addresses = int(announced["version"]), addresses
            self._seen = (stat.st_mtime_ns, stat.st_ino)

    def config(self) -> bytes:
        """The version and the members: two lines that end in a line feed."""
        nodes = " ".join(f"{host}|{host}|{port}" for host, port in self.addresses)
        return f"{self.version}\n{nodes}\n".encode()


class Secured:
    """TLS by what lies in FOLDER. presenting: for those who connect; trusting: for members."""

    def __init__(self, folder: Path) -> None:
        import ssl

        self._file = folder / "node.pem"
        self._seen = self._file.stat().st_mtime_ns
        self.presenting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.presenting.load_cert_chain(self._file)
        self.trusting = ssl.create_default_context(cafile=folder / "ca.pem")
        for context in (self.presenting, self.trusting):
            context.minimum_version = ssl.TLSVersion.TLSv1_2

    async def keep_fresh(self) -> None:
        """Read the certificate again whenever it was replaced; open connections stay."""
        while True:
            await asyncio.sleep(RENEWAL_LOOK_S)
            with suppress(OSError):  # the one that was read last goes on
                changed = self._file.stat().st_mtime_ns
                if changed != self._seen:
                    self.presenting.load_cert_chain(self._file)
                    self._seen = changed


class Client:
    """One connection of a client, and the connection to a member that serves it once it needs one."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        members: Members,
        version: str,
        secured: Secured | None = None,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._secured = secured
        self._members = members
        self._version = version
        self._member: asyncio.StreamWriter | None = None
        self._replies: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Answer until either side ends the connection."""
        first = await self._reader.read(1)
        if first == _MAGIC_BINARY:
            await self._pass_on(first)
            while chunk := await self._reader.read(_CHUNK):
                await self._pass_on(chunk)
        else:
            while await self._command(first + await self._reader.readline()):
                first = b""
        await self._finish_replies()

    async def _command(self, line: bytes) -> bool:
        """Answer one command or pass it on; return False when the connection is to end."""
        words = line.split()
        match words:
            case _ if not line.endswith(b"\n"):  # the client has hung up
                return False
            case [b"config", b"get", b"cluster"]:
                await self._answer_config(b"CONFIG cluster")
            case [b"get", b"AmazonElastiCache:cluster"]:
                await self._answer_config(b"VALUE AmazonElastiCache:cluster")
            case [b"config", b"set" | b"delete", *rest]:
                await self._refuse_change(rest)
            case [b"version"] if self._member is None:
                await self._answer(f"VERSION {self._version}\r\n".encode())
            case [b"quit"]:
                return False
            case _:
                await self._pass_on(line)
                await self._pass_on_data(data_length(words))
        return True

    async def _answer_config(self, title: bytes) -> None:
        # Earlier commands may still be under way at the member. Ending our side of that connection makes it
        # answer them and hang up: a barrier that needs no understanding of replies.
        await self._finish_replies()
        self._members.refresh()
        config = self._members.config()
        await self._answer(b"%s 0 %d\r\n%s\r\nEND\r\n" % (title, len(config), config))

    async def _refuse_change(self, words: list[bytes]) -> None:
        """What is announced follows the members and is nobody else's to write; the data is read past all the same."""
        lengths = [int(word) for word in words if word.isdigit() and len(word) < _LONGEST_NUMBER]
        left = lengths[-1] + 2 if lengths else 0
        while left > 0:
            chunk = await self._reader.read(min(left, _CHUNK))
            if not chunk:
                raise ConnectionResetError("the client hung up inside a block of data")
            left -= len(chunk)
        await self._finish_replies()
        await self._answer(b"CLIENT_ERROR the configuration of the cluster follows its members and cannot be set\r\n")

    async def _answer(self, reply: bytes) -> None:
        self._writer.write(reply)
        await self._writer.drain()

    async def _pass_on(self, data: bytes) -> None:
        if self._member is None:
            reader, self._member = await self._connect()
            self._replies = asyncio.create_task(self._return_replies(reader))
        self._member.write(data)
        await self._member.drain()

    async def _pass_on_data(self, length: int) -> None:
        while length > 0:
            chunk = await self._reader.read(min(length, _CHUNK))
            if not chunk:
                raise ConnectionResetError("the client hung up inside a block of data")
            length -= len(chunk)
            await self._pass_on(chunk)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._members.refresh()
        for host, port in self._members.addresses:
            with suppress(OSError, TimeoutError):
                context = self._secured.trusting if self._secured is not None else None
                name = host if context is not None else None
                line = asyncio.open_connection(host, port, ssl=context, server_hostname=name)
                return await asyncio.wait_for(line, CONNECT_TIMEOUT_S)
        await self._answer(b"SERVER_ERROR no cache node of this cluster accepts connections\r\n")
        raise ConnectionRefusedError("no member accepts connections")

    async def _return_replies(self, member: asyncio.StreamReader) -> None:
        """Copy the member's replies until it hangs up."""
        with suppress(OSError):
            while chunk := await member.read(_CHUNK):
                await self._answer(chunk)
        if self._member is not None and not self._member.is_closing():
            # It hung up on its own: the client is to see that and connect anew, perhaps to another member.
            self._reader.feed_eof()
            self._writer.close()

    async def _finish_replies(self) -> None:
        """Let the member answer what it was sent, and part from it."""
        member, replies, self._member, self._replies = self._member, self._replies, None, None
        if member is None or replies is None:
            return
        try:
            with suppress(OSError, TimeoutError):
                if member.can_write_eof():
                    member.write_eof()
                else:  # over TLS; it answers what came before, too, and hangs up
                    member.write(b"quit\r\n")
                await asyncio.wait_for(replies, DRAIN_TIMEOUT_S)
        finally:
            replies.cancel()
            member.close()

    async def close(self) -> None:
        if self._replies is not None:
            self._replies.cancel()
        for writer in (self._member, self._writer):
            if writer is not None:
                writer.close()


def data_length(words: list[bytes]) -> int:
    """Return how many bytes follow a command line: its data and CRLF; 0 for a command without data.

    A length that is no number is refused by the member, which then reads the next line as a command, as we do.
    """
    at = _LENGTH_AT.get(words[0]) if words else None
    if at is None or len(words) <= at or not words[at].isdigit():
        return 0
    return int(words[at]) + 2


class Responder:
    """Serves every client that connects."""

    def __init__(self, folder: Path, version: str, secured: Secured | None = None) -> None:
        self._members = Members(folder)
        self._secured = secured
        self._version = version
        self._connections = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTION_LIMIT:
            writer.write(b"SERVER_ERROR too many open connections\r\n")
            writer.close()
            return
        self._connections += 1
        client = Client(reader, writer, self._members, self._version, self._secured)
        try:
            # OSError: a side hung up. ValueError: a line beyond the limit.
            with suppress(OSError, ValueError):
                await client.serve()
        finally:
            self._connections -= 1
            await client.close()


async def respond(folder: Path, *, tls: bool = False) -> None:
    """Serve until the process is ended. Raises OSError when the address cannot be bound."""
    listen = json.loads((folder / "responder.json").read_text(encoding="utf-8"))
    secured = Secured(folder) if tls else None
    responder = Responder(folder, str(listen["version"]), secured)
    server = await asyncio.start_server(
        responder.accept,
        str(listen["host"]),
        int(listen["port"]),
        limit=LINE_LIMIT,
        backlog=511,
        ssl=secured.presenting if secured is not None else None,
    )
    async with server, asyncio.TaskGroup() as tasks:
        if secured is not None:
            tasks.create_task(secured.keep_fresh())
        await server.serve_forever()


def main() -> None:
    folder, *more = sys.argv[1:] or [""]
    if not folder or more not in ([], ["--tls"]):
        sys.exit("usage: python -m cachekeep.endpoint.discovery FOLDER [--tls]")
    os.umask(0o077)
    asyncio.run(respond(Path(folder), tls=bool(more)))


if __name__ == "__main__":
    main()
