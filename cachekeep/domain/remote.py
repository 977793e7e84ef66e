"""The ports through which backups see the world: endpoints that speak RESP, and engines to load a copy into.

Protocols and errors only; stdlib only. Adapters: `remote` (connections), `host.scratch` (engines for a while).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import Any, Protocol

from cachekeep.domain.engine import Engine, EngineInstall

# RESP2: bytes (a simple string too), int, None, list, Refusal.
Reply = Any


class RemoteFault(Enum):
    """What kind of trouble. UNREACHABLE is everything that may pass by itself: refused, timed out, dropped, loading."""

    UNREACHABLE = "unreachable"
    DENIED = "denied"
    UNTRUSTED = "untrusted"
    FOREIGN = "foreign"


class RemoteError(Exception):
    """An endpoint did not do what was asked. Says what, where, and what to do; never a credential."""

    def __init__(self, fault: RemoteFault, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.fault, self.what, self.advice = fault, what, advice


@contextmanager
def understood(address: str) -> Iterator[None]:
    """Around whatever takes replies apart: those of another shape than the commands have are the server's fault."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise RemoteError(
            RemoteFault.FOREIGN,
            f"{address} answers in another way than Redis and Valkey do ({type(error).__name__}: {str(error)[:100]})",
            "is something else in between, such as a proxy?",
        ) from error


class Refusal(Exception):
    """An error reply, in the server's words: `NOPERM this user has no permissions...`. A value where replies are.

    Without control characters, which a terminal would obey.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__("".join(one if one.isprintable() else "?" for one in str(text)))

    @property
    def code(self) -> str:
        """Its first word: NOPERM, WRONGTYPE, OOM, READONLY, MOVED, ERR..."""
        return str(self).partition(" ")[0]


class Connection(Protocol):
    """One connection to one node, with one database for its whole life. Belongs to one thread but for `close`.

    After a RemoteError it is closed: what was asked may or may not have been done.
    """

    @property
    def address(self) -> str:
        """`host:port`, or `unix:/path`."""
        ...

    @property
    def db(self) -> int: ...

    def send(self, packed: bytes) -> None:
        """Send commands that `codec.resp.pack` made, any number joined. Raises RemoteError."""
        ...

    def receive(self, count: int) -> list[Reply]:
        """The next count replies.

        Raises RemoteError(UNREACHABLE) when no byte comes within the connection's time.
        """
        ...

    def receive_ready(self, within_s: float) -> list[Reply]:
        """What the server sent by itself: every whole message that is there, after waiting so long for a first byte.

        None is no error here. Raises RemoteError.
        """
        ...

    def receive_bytes(self) -> bytes:
        """The next bytes as they come, unparsed: for PSYNC. Only when no reply is outstanding. Raises RemoteError."""
        ...

    def ask(self, *words: bytes | str | int) -> Reply:
        """One command and its reply. Raises Refusal when that is an error reply, RemoteError."""
        ...

    def close(self) -> None:
        """Also from another thread: whoever waits in `receive` gets a RemoteError."""
        ...

    def __enter__(self) -> Connection: ...

    def __exit__(self, *exc: object) -> None: ...


class Remote(Protocol):
    """A place to connect to, with the credentials and the trust that go with it."""

    @property
    def name(self) -> str:
        """Its URL without credentials."""
        ...

    @property
    def address(self) -> str:
        """As of its connections."""
        ...

    def connect(self, db: int = 0, *, timeout_s: float | None = None) -> Connection:
        """A connection, authenticated, in that database. timeout_s: instead of the remote's own.

        Raises RemoteError. A server that is loading its data set, or is out of clients, is UNREACHABLE.
        """
        ...

    def at(self, host: str, port: int) -> Remote:
        """Another node of the same cluster: same credentials, same trust. An empty host means this one's."""
        ...


class ScratchEngines(Protocol):
    """Engines that run for a while on this machine, on a private socket, for nobody else."""

    def for_rdb(self, engine: Engine, rdb_version: int) -> EngineInstall | None:
        """The newest installed engine that loads an RDB file which `engine` wrote; None when there is none."""
        ...

    def loaded(self, rdb: Iterable[bytes], install: EngineInstall, databases: int) -> AbstractContextManager[Remote]:
        """The engine with this RDB file loaded; it and its files are gone when the context ends.

        databases: how many it has to have. Raises ScratchError: the file does not load, no space.
        """
        ...

    def replayed(
        self, rdb: Iterable[bytes], commands: Iterable[bytes], install: EngineInstall, databases: int
    ) -> AbstractContextManager[Remote]:
        """The same with whole commands carried out after it, in RESP, joined as one likes: as an AOF with a base.

        While it loads, nothing expires but by a command. Raises ScratchError.
        """
        ...

    def empty(self, install: EngineInstall, databases: int) -> AbstractContextManager[Remote]:
        """The engine without data. Raises ScratchError."""
        ...

    def installs(self) -> Sequence[EngineInstall]:
        """Those that speak RESP, newest first within an engine."""
        ...


class ScratchError(Exception):
    """An engine for a while could not be had. Says why and what to do."""
