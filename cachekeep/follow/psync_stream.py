"""One node's replication stream, as a replica has it, and what the node says of it meanwhile. Called by psync_lane.

What the source sees of us: INFO replication lists a replica `ip=cachekeep-...,port=0`, with `offset=0` and a lag of up
to KEEP_ALIVE_S. That is no address, so a Sentinel, which makes replicas of such lines, makes none of ours (from its
code, not tried). The offset that we tell is 0 always, so that WAIT of the source's clients never counts a backup as a
copy (but WAIT of a client that has written nothing). min-replicas-to-write counts replicas by the age of their last
word alone: we are one for min-replicas-max-lag (10 s) of every KEEP_ALIVE_S, which nothing short of silence prevents,
and a replica that is silent for repl-timeout (60 s) is cut off.

From 7.0 on a source that is told to end waits up to shutdown-timeout (10 s) for replicas that have not told its own
offset: so we leave as soon as it says that it ends and we have all of it.
Source: src/replication.c replconfCommand, refreshGoodReplicasCount, replicationCron; src/server.c isReadyToShutdown.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cachekeep.backup.psync import Attached, Position
from cachekeep.codec.dump import Target
from cachekeep.codec.info import parse_info
from cachekeep.codec.resp import pack
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault, understood

KEEP_ALIVE_S = 25.0
# A primary says PING every repl-ping-replica-period (10 s).
_SILENCE_S = 60.0
_SIDE_S = 10.0
_ONLINE_S, _ONLINE_LOOK_S = 20.0, 0.05
_PASSING = frozenset(("NOMASTERLINK", "LOADING", "MASTERDOWN", "BUSY"))
_ACK = pack("REPLCONF", "ACK", 0)
_NUMBERS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")


class Refused(RemoteError):
    """PSYNC was refused, in the server's words."""

    def __init__(self, address: str, refusal: Refusal) -> None:
        passing = refusal.code in _PASSING or "can't sync" in str(refusal).lower()
        fault = RemoteFault.UNREACHABLE if passing else RemoteFault.DENIED
        super().__init__(fault, f"{address} refuses PSYNC: {refusal}", "allow it, or follow in another way")
        self.refusal = refusal


class Stream:
    """A connection, and PSYNC on it. `position` lies behind all that was read. close: from any thread.

    why_anew: why it was not asked to go on, "" where it was. began_at: when PSYNC was sent, time.monotonic().
    whole_scripts: the source sends a script as it is and not what that did, as engines before 7.0 can be told to.
    """

    def __init__(self, remote: Remote) -> None:
        """Raises RemoteError."""
        self._remote, self._connection = remote, remote.connect(timeout_s=_SILENCE_S)
        self._name = f"cachekeep-{secrets.token_hex(4)}"
        self.position = Position("?", -1)
        self.continued = False
        self.run_id = self.why_anew = ""
        self.whole_scripts = False
        self.began_at = 0.0
        self._attached: Attached | None = None
        self._said_at = 0.0

    def begin(self, since: Position | None, target: Target, why_anew: str = "") -> None:
        """Go on behind `since`, or begin anew. Sets `continued`. Raises Refused, RemoteError.

        target: what the server was when `since` was written; another one begins anew, though it might go on: what it
        sends may be for engines of its own version only. why_anew: begin anew for this reason.
        """
        try:
            with understood(self._connection.address):
                said = _info(self._connection.ask("INFO", "server"))
            self.run_id = said.get("run_id", "")
            if "shutdown_in_milliseconds" in said:
                raise RemoteError(RemoteFault.UNREACHABLE, f"{self.address} is ending", "start it again")
            number = said.get("valkey_version") or said.get("redis_version", "0")
            now = _target_of(said)
            if since and now != target:
                why_anew = f"it was {_named(target)}, and is {_named(now)}"
            self.why_anew = why_anew
            self.whole_scripts = self._sends_scripts()
            self.began_at = time.monotonic()
            self._attached = Attached(self._connection, number, None if why_anew else since, name=self._name)
        except Refusal as refusal:
            raise Refused(self.address, refusal) from refusal
        self.position, self.continued = self._attached.position, self._attached.continued
        if self.continued:
            self._say()

    @property
    def address(self) -> str:
        return self._connection.address

    def rdb(self, on_snapshot: Callable[[], None]) -> Iterator[bytes]:
        """The file in pieces of at most 1 MiB. Raises Refused, RemoteError."""
        try:
            yield from self._asked.rdb(on_snapshot)
        except Refusal as refusal:
            raise Refused(self.address, refusal) from refusal
        self._await_commands()

    def read(self) -> bytes:
        """The next bytes of commands. Raises RemoteError."""
        data = self._asked.commands()
        self.position = Position(self.position.replid, self.position.offset + len(data))
        if time.monotonic() - self._said_at > KEEP_ALIVE_S:
            self._say()
        return data

    def close(self) -> None:
        self._connection.close()

    @property
    def _asked(self) -> Attached:
        if self._attached is None:
            raise RuntimeError("begin first")
        return self._attached

    def _sends_scripts(self) -> bool:
        """Where CONFIG is not allowed: as if it did not, which is the default. From 7.0 on it has another name."""
        try:
            said = self._connection.ask("CONFIG", "GET", "lua-replicate-commands")
        except Refusal:
            return False
        return isinstance(said, list) and said[1:] == [b"no"]

    def _await_commands(self) -> None:
        """A source that sent its snapshot while it made it sends commands once it has heard from us that it came; what
        it hears before it has seen the end of its own sending counts for nothing."""
        deadline = time.monotonic() + _ONLINE_S
        with self._remote.connect(timeout_s=_SIDE_S) as side:
            while time.monotonic() < deadline:
                with understood(side.address):
                    lines = _info(side.ask("INFO", "replication")).values()
                mine = next((line for line in lines if line.startswith(f"ip={self._name},")), "")
                self._say()
                if ",state=online," in mine:
                    return
                time.sleep(_ONLINE_LOOK_S)

    def _say(self) -> None:
        self._connection.send(_ACK)
        self._said_at = time.monotonic()


class Word(NamedTuple):
    """What a node says of its replication history. linked: it is a primary, or a replica whose link is up."""

    position: Position
    run_id: str
    linked: bool
    ending: bool


class Side:
    """A second connection, for questions. Made when it is needed; closed by close(), from any thread."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._connection: Connection | None = None

    def ask(self) -> Word:
        """Of a replica: its own place in the stream of its primary. Raises RemoteError."""
        if self._connection is None:
            self._connection = self._remote.connect(timeout_s=_SIDE_S)
        connection = self._connection
        try:
            connection.send(pack("INFO", "replication") + pack("INFO", "server"))
            replies = connection.receive(2)
        except RemoteError:
            self._connection = None
            raise
        for reply in replies:
            if isinstance(reply, Refusal):
                what = f"{connection.address} does not answer INFO: {reply}"
                raise RemoteError(RemoteFault.UNREACHABLE, what, "allow INFO to this user")
        with understood(connection.address):
            replication, server = map(_info, replies)
            return Word(
                Position(replication["master_replid"], int(replication["master_repl_offset"])),
                server.get("run_id", ""),
                replication.get("role") == "master" or replication.get("master_link_status") == "up",
                "shutdown_in_milliseconds" in server,
            )

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()


def _target_of(said: dict[str, str]) -> Target | None:
    """As backup.survey reads it; None where it is no number."""
    valkey = "valkey_version" in said or said.get("server_name") == "valkey"
    number = _NUMBERS.match(said.get("valkey_version" if "valkey_version" in said else "redis_version", ""))
    return Target(Engine.VALKEY if valkey else Engine.REDIS, EngineVersion.parse(number[0])) if number else None


def _named(target: Target | None) -> str:
    return f"{target.engine.label} {target.version}" if target else "of no known version"


def _info(reply: bytes) -> dict[str, str]:
    return dict(parse_info(reply.decode("utf-8", "replace")))
