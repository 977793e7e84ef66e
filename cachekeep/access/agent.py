"""The agent that engines ask whether an IAM token is good: a private Unix socket of the service.

The protocol stands in module/iam_auth.c. The socket is 0600 in a folder of its own, 0700; whoever connects must be of
our own user. Every question is bounded in size and time. What is asked is judged by whoever builds the agent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import structlog

from cachekeep.domain.identity import Verdict
from cachekeep.domain.world import WorldError

log = structlog.get_logger()

FOLDER, SOCKET = "agent", "iam.sock"
MOST_BYTES = 16 << 10
DEADLINE_S = 5.0
# Questions at a time; an engine asks 128 at most.
MOST_ASKING = 1024
_LENGTH = struct.Struct(">I")
# sun_path of Linux is 108 bytes with its end.
_LONGEST_PATH = 107


# Node, user and token, as the module sends them. Must not block; whatever it raises refuses.
Judge = Callable[[str, str, str], Verdict]
# Of the loop, from a connection's arrival to its protocol.
_ROUNDS_TO_ACCEPT = 5


class Agent:
    def __init__(self, path: Path, judge: Judge) -> None:
        self._path, self._judge = path, judge
        self._server: asyncio.AbstractServer | None = None
        self._asking: set[_Question] = set()

    async def start(self) -> None:
        """Raises WorldError. A socket that an earlier service left is replaced."""
        try:
            _private(self._path.parent)
            self._path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                # Nobody can connect before it listens, and by then it is 0600.
                listener.bind(str(self._path))
                self._path.chmod(0o600)
                listener.listen(512)
                loop = asyncio.get_running_loop()
                self._server = await loop.create_unix_server(
                    lambda: _Question(self._decide, self._asking), sock=listener
                )
            except BaseException:
                listener.close()
                raise
        except OSError as error:
            raise WorldError(f"the socket {self._path} for IAM tokens cannot be made: {error.strerror}") from error

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        # One that was just accepted is known some rounds of the loop later.
        for _ in range(_ROUNDS_TO_ACCEPT):
            for question in list(self._asking):
                question.give_up()
            await asyncio.sleep(0)
        self._path.unlink(missing_ok=True)

    def _decide(self, node: str, user: str, token: str) -> Verdict:
        try:
            return self._judge(node, user, token)
        except Exception:  # noqa: BLE001 - and without its values: they hold the token
            log.error("an IAM token could not be judged and is refused", node=node)
            return Verdict.REFUSE


class _Question(asyncio.Protocol):
    """One connection: one question, one answer. Not with streams, which cost more than the judging."""

    def __init__(self, decide: Judge, asking: set[_Question]) -> None:
        self._decide, self._asking = decide, asking
        self._given = bytearray()
        self._link: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._link = cast(asyncio.Transport, transport)
        if len(self._asking) >= MOST_ASKING or not _is_ours(transport.get_extra_info("socket")):
            self._link.abort()
            return
        self._asking.add(self)
        self._end = asyncio.get_running_loop().call_later(DEADLINE_S, self.give_up)

    def data_received(self, data: bytes) -> None:
        self._given += data
        if self._link is None or len(self._given) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(self._given)
        if length > MOST_BYTES or len(self._given) > _LENGTH.size + length:
            self.give_up()
        elif len(self._given) == _LENGTH.size + length:
            asked = _parts(bytes(self._given[_LENGTH.size :]))
            if asked is not None:
                self._link.write(self._decide(*asked).value)
            self._link.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._asking.discard(self)
        if self._end is not None:
            self._end.cancel()

    def give_up(self) -> None:
        if self._link is not None:
            self._link.abort()


def _parts(rest: bytes) -> tuple[str, str, str] | None:
    """Node, user and token; None for what is no question. What is not UTF-8 cannot be a good token, and stays wrong."""
    parts = []
    for _ in range(2):
        size = int.from_bytes(rest[:2], "big")
        if len(rest) < 2 + size:
            return None
        parts.append(rest[2 : 2 + size].decode("utf-8", "replace"))
        rest = rest[2 + size :]
    return parts[0], parts[1], rest.decode("utf-8", "replace")


def _is_ours(link: socket.socket) -> bool:
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", raw)
    return bool(user == os.getuid())


def socket_path(state_dir: Path) -> Path:
    """Where the socket is, the same for every start: below the state directory, or where that is too deep for a
    socket's name, in a folder of the user's own among the temporary files."""
    usual = state_dir.absolute() / FOLDER / SOCKET
    if len(os.fsencode(usual)) <= _LONGEST_PATH:
        return usual
    digest = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cachekeep-{os.getuid()}-{digest}" / SOCKET


def _private(folder: Path) -> None:
    """Raises OSError unless it is a folder of our own, that nobody else may enter."""
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise PermissionError(1, f"{folder} is not a folder of this user's", str(folder))
    folder.chmod(0o700)
