"""Engines for a while: a private folder, a unix socket in it, no port, no persistence. Implements ScratchEngines.

What an engine loads it may change: a primary drops keys that have expired when it loads an RDB file, and its active
expiry goes on afterwards. Nothing turns that off, so a copy that is read from here lacks what expired since.
The engine does not outlive this process, however that ends: see host.keeper.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cachekeep.codec.dump import Target, Unrepresentable, rdb_version_of
from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.domain.remote import Remote, RemoteError, RemoteFault, ScratchError
from cachekeep.host.config_file import directive
from cachekeep.host.engine_log import reason_of_end
from cachekeep.host.scratch_aof import AOF_FOLDER, AOF_NAME, refusal_in, write_aof

RDB_FILE = "dump.rdb"
# The last RDB version that Redis and Valkey share; above it each goes its own way.
_SHARED_RDB = 11
# Redis 7.4's own (hash fields that expire). codec.dump writes nothing newer than 11 for it, which is another question.
_REDIS_RDB = (((7, 4), 12),)
# sun_path has 108 bytes on Linux and 104 on macOS, its end among them.
_SOCKET_PATH_BYTES = 103
_SHORT_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108  # a private folder is made in it
_LOOK_EVERY_S = 0.02
# No answer at all, not even LOADING: a single huge key is loaded without a look at the clients.
SILENT_S = 600.0
_END_S = 60.0


class Installs(Protocol):
    """Where engines are found; host.installs.MachineCatalogue is one."""

    def installs(self) -> Sequence[EngineInstall]: ...


class LocalScratch:
    """Engines of this machine. connect: makes a Remote of a socket's path. folder: instead of the system's TMPDIR."""

    def __init__(self, catalogue: Installs, connect: Callable[[Path], Remote], folder: Path | None = None) -> None:
        self._catalogue, self._connect, self._folder = catalogue, connect, folder

    def installs(self) -> Sequence[EngineInstall]:
        return [install for install in self._catalogue.installs() if install.engine.speaks_resp]

    def for_rdb(self, engine: Engine, rdb_version: int) -> EngineInstall | None:
        """See the port. One of the same engine comes first: what it dumps is then nearer to what the source dumped."""
        able = [install for install in self.installs() if loads_rdb(install, engine, rdb_version)]
        return min(able, key=lambda install: install.engine is not engine, default=None)

    @contextmanager
    def loaded(self, rdb: Iterable[bytes], install: EngineInstall, databases: int) -> Iterator[Remote]:
        """See the port. What iterating rdb raises comes through."""
        with _rooms(self._folder) as rooms:
            _write(rdb, rooms.folder / RDB_FILE)
            with self._running(install, databases, rooms) as remote:
                yield remote

    @contextmanager
    def replayed(
        self, rdb: Iterable[bytes], commands: Iterable[bytes], install: EngineInstall, databases: int
    ) -> Iterator[Remote]:
        """See the port. What iterating rdb and commands raises comes through."""
        with _rooms(self._folder) as rooms:
            settings = write_aof(rdb, commands, install, rooms.folder, _write)
            with self._running(install, databases, rooms, settings) as remote:
                if refusal := refusal_in(rooms.log.read_text("utf-8", "replace")):
                    what = f"{install} did not carry out a command of the replication stream ({refusal[:300]})"
                    raise ScratchError(f"{what}; load it with the version that wrote it")
                yield remote

    @contextmanager
    def empty(self, install: EngineInstall, databases: int) -> Iterator[Remote]:
        with _rooms(self._folder) as rooms, self._running(install, databases, rooms) as remote:
            yield remote

    @contextmanager
    def _running(
        self, install: EngineInstall, databases: int, rooms: _Rooms, settings: Mapping[str, str] = {}
    ) -> Iterator[Remote]:
        if not install.engine.speaks_resp:
            raise ScratchError(f"{install} loads no RDB file; install Valkey or Redis")
        try:
            keeper = _start(install, databases, rooms, settings)
        except (OSError, ValueError) as error:
            raise ScratchError(f"{install} cannot be started in {rooms.folder}: {error}; check that folder") from None
        try:
            remote = self._connect(rooms.socket)
            _await_loaded(remote, keeper, install, rooms)
            yield remote
        finally:
            _end(keeper)


def loads_rdb(install: EngineInstall, engine: Engine, rdb_version: int) -> bool:
    """True when the install loads a file of that version which engine wrote."""
    target = Target(install.engine, install.version)
    try:
        newest = rdb_version_of(target)
    except Unrepresentable:
        return False
    if install.engine is Engine.REDIS:
        newest = max([newest, *(version for since, version in _REDIS_RDB if target.number >= since)])
    return rdb_version <= newest and (rdb_version <= _SHARED_RDB or install.engine is engine)


@dataclass(frozen=True)
class _Rooms:
    """Private folders. socket: in folder, or in one of its own where folder's path is too long for a socket."""

    folder: Path
    socket: Path

    @property
    def log(self) -> Path:
        return self.folder / "engine.log"

    @property
    def folders(self) -> list[str]:
        return [str(self.folder)] + [str(self.socket.parent)] * (self.socket.parent != self.folder)


@contextmanager
def _rooms(parent: Path | None) -> Iterator[_Rooms]:
    made: list[str] = []
    try:
        try:
            made.append(tempfile.mkdtemp(prefix="cachekeep-", dir=parent))  # 0700
            home = made[0]
            if len(os.fsencode(os.path.join(home, "s"))) > _SOCKET_PATH_BYTES:  # noqa: PTH118  # bytes count
                short = next((one for one in _SHORT_FOLDERS if os.access(one, os.W_OK | os.X_OK)), None)
                if short is None:
                    raise ScratchError(f"{home} is too long a path for a socket; set TMPDIR to a shorter one")
                made.append(tempfile.mkdtemp(prefix="cachekeep-", dir=short))
        except OSError as error:
            place = parent or tempfile.gettempdir()
            what = f"no folder can be made in {place}: {error.strerror}"
            raise ScratchError(f"{what}; set TMPDIR to one where this user may write") from None
        yield _Rooms(Path(home).resolve(), Path(made[-1], "s"))
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)


def _write(rdb: Iterable[bytes], path: Path) -> None:
    written = 0
    # Without a buffer: what closing would still have to write would fail a second time, out of place.
    with path.open("xb", buffering=0) as file:
        for chunk in rdb:
            rest = memoryview(chunk)
            while rest:
                try:
                    size = file.write(rest)
                except OSError as error:
                    raise _no_space(error, path.parent, written) from None
                rest, written = rest[size:], written + size


def _no_space(error: OSError, folder: Path, written: int) -> ScratchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        what = f"no space in {folder.parent} for the RDB file: it ended after {written >> 20} MiB"
    else:
        what = f"the RDB file cannot be written to {folder}: {error.strerror}"
    return ScratchError(f"{what}; make room there, or set TMPDIR to another folder")


def _start(install: EngineInstall, databases: int, rooms: _Rooms, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
    settings = {
        "port": "0",
        "unixsocket": str(rooms.socket),
        "unixsocketperm": "700",
        "dir": str(rooms.folder),
        "dbfilename": RDB_FILE,
        "logfile": "",  # to standard output: the linker's complaints and a crash come there as well
        "save": "",
        "appendonly": "no",
        "databases": str(max(databases, 1)),
        "maxmemory": "0",
        "daemonize": "no",
        "supervised": "no",
        "always-show-logo": "no",
        # What is read here goes to other servers, by DUMP: nothing is to wait for a disk.
        "stop-writes-on-bgsave-error": "no",
        **more,
    }
    config = rooms.folder / "engine.conf"
    config.write_text("\n".join(line for item in settings.items() for line in directive(*item)) + "\n", "utf-8")
    keeper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), *rooms.folders, "--"]
    with rooms.log.open("wb") as log:
        return subprocess.Popen(
            [*keeper, install.program, str(config)],
            cwd=rooms.folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is ours: what uses the engine ends first
            umask=0o077,
        )


def _await_loaded(remote: Remote, keeper: subprocess.Popen[bytes], install: EngineInstall, rooms: _Rooms) -> None:
    """However long it takes, while the engine lives and answers. Raises ScratchError."""
    answered = time.monotonic()
    while True:
        try:
            remote.connect().close()
            return
        except RemoteError as error:
            if error.fault is not RemoteFault.UNREACHABLE:
                raise ScratchError(f"{install} does not serve its socket: {error}") from None
            if "loading" in error.what:
                answered = time.monotonic()
        if keeper.poll() is not None:
            # No advice for corruption alone: the reason is the engine's, in its words.
            why = reason_of_end(rooms.log.read_text("utf-8", "replace"), keeper.returncode)
            task = "load the RDB file" if (rooms.folder / RDB_FILE).exists() else "start"
            if (rooms.folder / AOF_NAME).exists() or (rooms.folder / AOF_FOLDER).exists():
                task = "load the RDB file and the commands after it"
            raise ScratchError(f"{install} does not {task}: {why}")
        if time.monotonic() - answered > SILENT_S:
            raise ScratchError(f"{install} has said nothing for {SILENT_S:g} s while it loads; see what holds it up")
        time.sleep(_LOOK_EVERY_S)


def _end(keeper: subprocess.Popen[bytes]) -> None:
    with suppress(BrokenPipeError):  # it has ended already
        assert keeper.stdin is not None  # noqa: S101  # it was asked for
        keeper.stdin.close()
    try:
        keeper.wait(_END_S)
    finally:
        if keeper.poll() is None:
            keeper.kill()
            keeper.wait()
