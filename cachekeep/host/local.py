"""Runs nodes as processes of this machine. Implements domain.ports.Host; used by control.

A node's process is found again in three ways, in this order: what this service knows, what node.json records
(pid and start time), and for a service that died between starting and recording, the processes whose working
folder is a node's folder and whose environment carries that node's mark.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from cachekeep.domain.access import EngineLogin
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, Process, ProgramKind
from cachekeep.domain.transit import AUTHORITY, CERTIFICATE, Listening
from cachekeep.domain.world import WorldError
from cachekeep.host import folder as files
from cachekeep.host import keeping, saved_mark
from cachekeep.host.authority import Authority, validity_of
from cachekeep.host.exits import Handle, hold, wait_briefly
from cachekeep.host.folder import told_as_world_error
from cachekeep.host.listening import recorded, refuse_taken, write_listening
from cachekeep.host.persisted import RDB, kept_in, to_load
from cachekeep.host.process import DELETED, inhabitants, is_alive, look, mark_of, working_folder
from cachekeep.host.seed import plant
from cachekeep.host.spawn import kill_child, prepare, reap, spawn

KILL_DEADLINE_S = 10.0
# In a node's folder: its process has read the certificate that lies there.
RENEWED = "certificate-read"


@dataclass(frozen=True)
class StrayProcess:
    """A process that Cachekeep started and that belongs to no node any more. folder: where it runs, or ran."""

    process: Process
    node: str
    folder: str


Modules = Callable[[NodeSpec, EngineInstall], Sequence[Sequence[str]]]


def _no_modules(_: NodeSpec, __: EngineInstall) -> Sequence[Sequence[str]]:
    return ()


class LocalHost:
    """Host on one machine. root: the folder of all nodes, made when it is missing. login: the service's own user,
    which every engine is told of at its start. modules: what a node's program is to load; asked in a thread.

    Not for several services at a time. Calls for one node must not overlap; calls for different nodes may.
    """

    def __init__(
        self,
        root: Path,
        login: EngineLogin | None = None,
        authority: Authority | None = None,
        modules: Modules = _no_modules,
    ) -> None:
        self._authority = authority
        self._login = login
        self._modules = modules
        with told_as_world_error("make the folder", root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = root.resolve()
        self._known: dict[NodeKey, Process] = {}
        self._unrecorded: dict[NodeKey, Process] | None = None
        self._watched: dict[Process, Handle] = {}
        self._making_folders = threading.Lock()

    async def start(self, spec: NodeSpec, install: EngineInstall | None, *, keep_data: bool) -> Process:
        """See Host.start. Raises ValueError when spec.config sets what only Cachekeep sets, or cannot be quoted."""
        # Whatever the machine refuses on the way, such as one more open file, is tried again.
        with told_as_world_error("start a node in", self._folder(spec.key)):
            process = self.find(spec.key)
            if process is None:
                process = await asyncio.to_thread(self._start, spec, install, keep_data)
                self._known[spec.key] = process
            return process

    def _start(self, spec: NodeSpec, install: EngineInstall | None, keep_data: bool) -> Process:
        folder = self._folder(spec.key)
        unrecorded = self._clear_out(spec.key, folder)
        if unrecorded is not None:
            return unrecorded
        refuse_taken(spec)
        wanted = spec
        with told_as_world_error("prepare the folder", folder):
            with self._making_folders:
                files.make_private(folder, self._root)
            if not keep_data:
                files.remove_data(folder)
                files.remove_identity(folder)
                if spec.seed is not None:
                    plant(spec.seed, folder)
                    spec = to_load(spec, folder, RDB)
            elif spec.program is ProgramKind.ENGINE:
                spec = to_load(spec, folder, RDB if self.is_saved(spec.key) else kept_in(folder, spec.config))
            if spec.program is ProgramKind.ENGINE:
                keeping.begin(folder, wanted.config)
            files.bound_log(folder / "engine.log")
            if spec.transit.encrypted:
                self._certify(spec, folder)
                files.write_whole(folder / RENEWED, "")
            modules = self._modules(spec, install) if install is not None else ()
            command = prepare(spec, install, folder, self._login, modules)
        with told_as_world_error("run", Path(command[0])):
            process = spawn(spec.key, command, folder)
        try:
            with told_as_world_error("write", folder / "node.json"):
                files.write_json(folder / "node.json", _record(spec, process, command))
        except WorldError:
            # An unrecorded process would be found again, but a disk that is full now is no place to run.
            kill_child(process)
            raise
        return process

    def _certify(self, spec: NodeSpec, folder: Path) -> None:
        """A fresh certificate for every start: whatever the node holds by now is in it. Raises WorldError."""
        if self._authority is None:
            raise WorldError(f"{spec.key} is to speak TLS, and there is no authority to sign its certificate")
        files.write_whole(folder / AUTHORITY, self._authority.certificate())
        self._authority.issue(folder / CERTIFICATE, str(spec.key), spec.hosts)

    def renew(self, spec: NodeSpec, now: float) -> bool:
        """See Host.renew."""
        folder = self._folder(spec.key)
        found = validity_of(folder / CERTIFICATE)
        if not spec.transit.encrypted or not folder.is_dir():
            return False
        if found is not None and not found.is_due(now, spec.hosts) and (folder / RENEWED).exists():
            return False
        with told_as_world_error("renew the certificate in", folder):
            (folder / RENEWED).unlink(missing_ok=True)
            self._certify(spec, folder)
        return True

    def record_listening(self, key: NodeKey, directives: Mapping[str, str]) -> None:
        write_listening(self._folder(key), directives)

    def renewed(self, key: NodeKey) -> None:
        """See Host.renewed."""
        with told_as_world_error("mark the certificate in", self._folder(key)):
            files.write_whole(self._folder(key) / RENEWED, "")

    def _clear_out(self, key: NodeKey, folder: Path) -> Process | None:
        """Return the node's process if one runs unrecorded after all; end what a dead engine left running.

        A fork child outlives its engine for as long as it writes its snapshot, and would put that old snapshot
        into the folder of the new process.
        """
        recorded = files.read_json(folder / "node.json").get("pid")
        for found in inhabitants(folder):
            process = found.seen.process
            # The number of a session is not given out again while one process is left in it.
            ours = found.mark == str(key) or found.seen.session == recorded
            if not ours or found.folder.removesuffix(DELETED) != str(folder):
                continue
            if found.folder.endswith(DELETED):
                raise WorldError(
                    f"process {process.pid} of {key} still runs, but its folder {folder} was deleted; "
                    f"end that process, then {key} can start"
                )
            if found.seen.leads_session:
                return process
            _kill_leftover(process)
        return None

    async def stop(self, key: NodeKey, *, grace_s: float) -> None:
        """See Host.stop. A process that is suspended (SIGSTOP) cannot end by itself and is killed at once."""
        process = self.find(key)
        handle = None if process is None else hold(process)
        if process is None or handle is None:
            return
        with handle:
            seen = look(process.pid)
            suspended = seen is not None and seen.stopped
            if grace_s > 0 and not suspended:
                handle.send(SIGTERM)
            by_itself = grace_s > 0 and not suspended and await handle.wait(grace_s)
            if not by_itself:
                handle.send(SIGKILL)
                if not await handle.wait(KILL_DEADLINE_S):
                    raise WorldError(
                        f"process {process.pid} of {key} did not end within {KILL_DEADLINE_S:g} s of SIGKILL; "
                        "the kernel holds it (a hanging disk?), it is tried again"
                    )
        self._ended(key, process)
        if not by_itself:
            await asyncio.to_thread(self._clear_out, key, self._folder(key))

    def find(self, key: NodeKey) -> Process | None:
        """See Host.find. Cheap: two small reads, and one walk over all processes in the life of a LocalHost."""
        known = self._known.get(key)
        if known is not None:
            if is_alive(known):
                return known
            self._ended(key, known)
        process = self._recorded(key) or self._scanned().get(key)
        if process is None or not is_alive(process):
            return None
        self._known[key] = process
        return process

    def _recorded(self, key: NodeKey) -> Process | None:
        folder = self._folder(key)
        match files.read_json(folder / "node.json"):
            case {"pid": int(pid), "started": str(started)} if is_alive(Process(pid, started)):
                # Pids and start times begin anew with every boot; the folder settles it. None: not for us to see.
                # And the mark: whatever else is written there, no other process is taken for the node's.
                ours = working_folder(pid) in (None, str(folder)) and mark_of(pid) == str(key)
                return Process(pid, started) if ours else None
        return None

    def _scanned(self) -> dict[NodeKey, Process]:
        """What ran unrecorded when this service began. Once is enough: what starts later is known or recorded."""
        if self._unrecorded is None:
            self._unrecorded = {}
            for found in inhabitants(self._root):
                key = files.key_of(self._root, Path(found.folder))
                if key is not None and found.mark == str(key) and found.seen.leads_session:
                    self._unrecorded[key] = found.seen.process
        return self._unrecorded

    def _ended(self, key: NodeKey, process: Process) -> None:
        if self._known.get(key) == process:
            del self._known[key]
        reap(process)

    def watch(self, key: NodeKey, process: Process, on_exit: Callable[[], None]) -> None:
        """See Host.watch. A second watch of the same process replaces the first."""
        self._unwatch(process)
        handle = hold(process)
        if handle is None:
            self._ended(key, process)
            asyncio.get_running_loop().call_soon(on_exit)
            return

        def ended() -> None:
            self._unwatch(process)
            self._ended(key, process)
            on_exit()

        self._watched[process] = handle
        handle.call_at_end(ended)

    def _unwatch(self, process: Process) -> None:
        handle = self._watched.pop(process, None)
        if handle is not None:
            handle.close()

    def close(self) -> None:
        """Stop watching. The nodes run on."""
        for process in list(self._watched):
            self._unwatch(process)

    def has_folder(self, key: NodeKey) -> bool:
        return self._folder(key).is_dir()

    def is_saved(self, key: NodeKey) -> bool:
        return saved_mark.is_saved(self._folder(key))

    def note_keeping(self, key: NodeKey, values: Mapping[str, str], *, done: bool) -> bool:
        """See Host.note_keeping."""
        folder = self._folder(key)
        with told_as_world_error("write", folder / keeping.FILE):
            return keeping.note(folder, values, done=done)

    def kept(self, key: NodeKey, config: Mapping[str, str]) -> str:
        """See Host.kept. Cheap: the head of one file, and when a few were written to."""
        folder = self._folder(key)
        with told_as_world_error("read what is kept in", folder):
            return kept_in(folder, config)

    def is_marked(self, key: NodeKey) -> bool:
        return saved_mark.is_marked(self._folder(key))

    def started_since_saved(self, key: NodeKey) -> bool:
        return saved_mark.started_since(self._folder(key))

    def mark_saved(self, key: NodeKey, saved: bool) -> None:
        saved_mark.mark(self._folder(key), saved=saved)

    async def remove(self, key: NodeKey) -> None:
        process = self.find(key)
        if process is not None:
            raise WorldError(f"process {process.pid} of {key} still runs; its folder goes when the process is gone")
        await asyncio.to_thread(self._remove, self._folder(key))

    def _remove(self, folder: Path) -> None:
        with told_as_world_error("delete", folder):
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                shutil.rmtree(folder)
            with self._making_folders, suppress(OSError):  # other nodes live there: then it stays
                folder.parent.rmdir()
                folder.parent.parent.rmdir()

    def nodes(self) -> list[NodeKey]:
        return files.keys_below(self._root)

    def started_with(self, key: NodeKey) -> Mapping[str, str] | None:
        match files.read_json(self._folder(key) / "node.json"):
            case {"config": dict(config)}:
                return {str(name): str(value) for name, value in config.items()}
        return None

    def log_tail(self, key: NodeKey, lines: int) -> list[str]:
        return files.last_lines(self._folder(key) / "engine.log", lines)

    def discovery_members(self, key: NodeKey) -> tuple[int, tuple[Address, ...]] | None:
        match files.read_json(self._folder(key) / "members.json"):
            case {"version": int(version), "members": list(members)}:
                return version, tuple(Address(str(host), int(port)) for host, port in members)
        return None

    def advertise(self, key: NodeKey, version: int, members: Sequence[Address]) -> None:
        folder = self._folder(key)
        announced = {"version": version, "members": [[m.host, m.port] for m in members]}
        with told_as_world_error("write", folder / "members.json"):
            with self._making_folders:
                files.make_private(folder, self._root)
            files.write_json(folder / "members.json", announced)

    def stray_processes(self) -> list[StrayProcess]:
        """Processes with our mark that run below root for no node: the folder was deleted, or another process of
        the same node is the known one. Walks over all processes of the machine."""
        known = {p.pid for p in map(self.find, self.nodes()) if p is not None}
        return [
            StrayProcess(found.seen.process, found.mark, found.folder)
            for found in inhabitants(self._root)
            if found.mark is not None and found.seen.process.pid not in known and found.seen.session not in known
        ]

    async def end_strays(self, is_wanted: Callable[[NodeKey], bool]) -> list[str]:
        ended = []
        for stray in await asyncio.to_thread(self.stray_processes):
            region, cluster_id, node_id = (*stray.node.split("/"), "", "")[:3]
            if is_wanted(NodeKey(region, cluster_id, node_id)):
                continue
            await asyncio.to_thread(_kill_leftover, stray.process)
            ended.append(f"{stray.node} (process {stray.process.pid})")
        return ended

    def _folder(self, key: NodeKey) -> Path:
        return files.folder_of(self._root, key)


def _kill_leftover(process: Process) -> None:
    handle = hold(process)
    if handle is not None:
        with handle:
            handle.send(SIGKILL)
        wait_briefly(process, KILL_DEADLINE_S)


def _record(spec: NodeSpec, process: Process, command: Sequence[str]) -> dict[str, Any]:
    """What node.json holds: the process, and for whoever reads it, what it is."""
    return {
        "pid": process.pid,
        "started": process.started,
        "node": str(spec.key),
        "program": spec.program.value,
        "engine": spec.engine.value,
        "version": str(spec.version),
        "address": str(spec.address),
        "config": dict(spec.config),
        # Where the engine itself is talked to; kept up to date by record_listening.
        **recorded(Listening.wanted(spec.transit, spec.address.port)),
        "command": list(command),
        "written": round(time.time(), 3),
    }
