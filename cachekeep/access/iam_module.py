"""Which engines take IAM tokens: the auth module built, proved in each engine program, and named at a node's start.

It is built when the first user with IAM authentication is made; from then on every Valkey that starts loads it, so
that such users can be added to any group later. An engine that cannot load it would end at once, hence the proof: the
very program loads it once, on no port. Whatever fails leaves a node without it, which then lets no token in.
Implements domain.identity.TokenDoor.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillBusy
from pathlib import Path
from threading import Lock

import structlog

from cachekeep.access.agent import socket_path
from cachekeep.access.module_build import FOLDER, find_or_build
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.identity import TOKENS_SINCE, takes_tokens
from cachekeep.domain.nodes import NodeSpec, ProgramKind
from cachekeep.domain.world import WorldError

log = structlog.get_logger()

# How long a request waits for the first build; it goes on afterwards.
PATIENCE_S = 5.0
_PROOF_S = 30.0
_LOADED = b"Module 'cachekeep_iam' loaded"


class IamModule:
    """installs: the engines of this machine."""

    def __init__(self, state_dir: Path, installs: Callable[[], Sequence[EngineInstall]]) -> None:
        self._state_dir, self._installs = state_dir, installs
        self.socket = socket_path(state_dir)
        self._one_builder = ThreadPoolExecutor(1, "iam-module")
        self._making: Future[None] | None = None
        self._lock = Lock()

    def prepare(self) -> None:
        """See TokenDoor. Waits PATIENCE_S at most; what takes longer goes on, to be asked for again."""
        with self._lock:
            if self._making is None or (self._making.done() and self._making.exception() is not None):
                self._making = self._one_builder.submit(self._make)
            making = self._making
        try:
            making.result(PATIENCE_S)
        except StillBusy:
            raise WorldError("the IAM module is still being built; ask again in some seconds") from None

    def _make(self) -> None:
        able = [install for install in self._installs() if takes_tokens(install.engine, install.version)]
        if not able:
            raise WorldError(f"no Valkey from {TOKENS_SINCE} on is on this machine, and nothing else takes IAM tokens")
        module = find_or_build(self._state_dir)
        for install in able:
            self._prove(module, install)

    def words_for(self, spec: NodeSpec, install: EngineInstall) -> list[tuple[str, ...]]:
        """Behind `loadmodule`, for a node that starts now; [] where it takes no tokens. May build: not on an event
        loop."""
        if spec.program is not ProgramKind.ENGINE or not takes_tokens(install.engine, install.version):
            return []
        if not (self._state_dir / FOLDER).is_dir():  # nobody ever wanted it
            return []
        try:
            module = find_or_build(self._state_dir)
            self._prove(module, install)
        except WorldError as error:
            log.warning("a node starts without IAM tokens", node=str(spec.key), reason=str(error))
            return []
        return [(str(module), str(self.socket), str(spec.key))]

    def close(self) -> None:
        self._one_builder.shutdown(wait=False, cancel_futures=True)

    def _prove(self, module: Path, install: EngineInstall) -> None:
        """Raises WorldError unless that very program has loaded that very file."""
        seen = Path(install.program).stat()
        told = f"{install.program}\0{seen.st_size}\0{seen.st_mtime_ns}\0{module}"
        proof = self._state_dir / FOLDER / f"{module.stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.proved"
        if proof.exists():
            return
        _load_once(install.program, module)
        proof.touch(mode=0o600)


def _load_once(program: str, module: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cachekeep-iam-") as folder:
        command = [program, "--port", "0", "--save", "", "--appendonly", "no", "--dir", folder, "--logfile", ""]
        process = subprocess.Popen(
            [*command, "--loadmodule", str(module), "nowhere", "probe"],
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for_load(process, program)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _wait_for_load(process: subprocess.Popen[bytes], program: str) -> None:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    deadline, output = time.monotonic() + _PROOF_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while _LOADED not in output:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise WorldError(f"{program} did not say within {_PROOF_S:g} s that it has loaded the IAM module")
            piece = os.read(process.stdout.fileno(), 1 << 16)
            output += piece
            if not piece:
                last = output.decode("utf-8", "replace").strip().splitlines()[-3:]
                raise WorldError(f"{program} cannot load the IAM module: {' / '.join(last)[-300:]}")
