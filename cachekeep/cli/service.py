"""The service's process: found, started in the background, stopped. Called by up, down and status.

Two witnesses: service.json names the process (pid and start time), and the lock on service.lock, which the kernel
takes back however a process ends, says whether there is one at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from cachekeep.cli.client import answers
from cachekeep.cli.refusal import Refused
from cachekeep.settings import ENVIRONMENT, SECRET_SETTINGS, SERVICE_SETTINGS, Settings

SERVICE_FILE = "service.json"
LOCK_FILE = "service.lock"
LOG_FILE = "service.log"
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
KILL_DEADLINE_S = 10.0
_LOOK_EVERY_S = 0.05
# A process counts as ended with its main thread; its other threads may hold the lock for a moment longer.
_LETTING_GO_S = 5.0
_LOG_LIMIT_BYTES = 8 * 1024 * 1024
_LOG_LINES = 15
# The boot time that start times are reckoned from moves a little when the clock is set.
_SAME_START_S = 2.0


@dataclass(frozen=True)
class ServiceProcess:
    """started: seconds since 1970. url: None while the service has not announced itself.

    settings: those that it keeps until it is started anew, by name.
    """

    pid: int
    started: float
    url: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def find_service(state_dir: Path) -> ServiceProcess | None:
    """The living service of this state directory, or None.

    Raises Refused when one runs (its lock is held) that cannot be seen, such as another user's.
    """
    lock = state_dir / LOCK_FILE
    announced = _announced(state_dir)
    # The file alone is not believed: whatever it names would be ended by `down`.
    if announced is not None and announced.alive and _holds(announced.pid, lock):
        return announced
    deadline = time.monotonic() + _LETTING_GO_S
    while _is_locked(lock):
        holder = _holder(lock)
        if holder is not None:
            return holder
        if time.monotonic() > deadline:
            raise Refused(f"a service holds {lock}, but its process cannot be seen: is it another user's?")
        time.sleep(_LOOK_EVERY_S)
    return None


def _announced(state_dir: Path) -> ServiceProcess | None:
    try:
        match json.loads((state_dir / SERVICE_FILE).read_text()):
            case {"pid": int(pid), "started": int() | float() as started, "url": str(url), **more} if pid > 0:
                told = more.get("settings")
                kept = {n: v for n, v in told.items() if n in SERVICE_SETTINGS} if isinstance(told, dict) else {}
                return ServiceProcess(pid, float(started), url, kept)
    except (OSError, ValueError):  # no service was announced, or not in words that we know
        return None
    return None


def _holds(pid: int, lock: Path) -> bool:
    """The process has the lock's file open."""
    wanted = str(lock.resolve())
    try:
        return any(file.path == wanted for file in psutil.Process(pid).open_files())
    except psutil.Error:
        return False


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Refused(f"cannot read {lock}: {error.strerror}") from error


def _holder(lock: Path) -> ServiceProcess | None:
    """Whose `serve` has the lock open. Only where service.json is missing: it walks over all processes."""
    wanted = str(lock.resolve())
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "serve" in process.cmdline() and any(file.path == wanted for file in process.open_files()):
                return ServiceProcess(process.pid, process.create_time())
    return None


@contextmanager
def keep_out(state_dir: Path) -> Iterator[None]:
    """No service can start with this state directory meanwhile. Raises Refused when one runs."""
    deadline = time.monotonic() + _LETTING_GO_S
    with (state_dir / LOCK_FILE).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused("the service was started again meanwhile: nothing more was stopped", 1) from None
            time.sleep(_LOOK_EVERY_S)
        yield


def start_service(settings: Settings) -> ServiceProcess:
    """Run `serve` as a session of its own and wait until it answers.

    Raises Refused (1) with the last lines of its log when it ends instead.
    """
    log = settings.state_dir / LOG_FILE
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        reason = f"cannot use the state directory {settings.state_dir}: {error.strerror}; choose another"
        raise Refused(reason) from error
    with os.fdopen(descriptor, "ab") as file:
        begin = file.tell()
        child = subprocess.Popen(
            # -P: a folder named cachekeep in the current directory is not ours to run.
            [sys.executable, "-P", "-m", "cachekeep", "serve"],
            env=_environment(settings),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    return _wait_until_it_answers(settings, child, log, begin)


def _environment(settings: Settings) -> dict[str, str]:
    """Ours, and every setting of this command but the secrets: those the child finds where we found them."""
    environment = dict(os.environ)
    for name, variable in ENVIRONMENT.items():
        if name not in SECRET_SETTINGS:
            environment[variable] = str(getattr(settings, name))
    if environment.get("CACHEKEEP_CONFIG"):
        environment["CACHEKEEP_CONFIG"] = str(Path(environment["CACHEKEEP_CONFIG"]).absolute())
    return environment


def _wait_until_it_answers(settings: Settings, child: subprocess.Popen[bytes], log: Path, begin: int) -> ServiceProcess:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            lines = _end_of(log, begin)
            raise Refused(f"the service ended at once (exit code {child.returncode}); the end of {log}:\n{lines}", 1)
        announced = _announced(settings.state_dir)
        # By pid: another Cachekeep may answer on that port.
        if announced is not None and announced.pid == child.pid and answers(settings.url, ca_file=settings.ca_file):
            # Popen is done with it: it would complain of a child that outlives it.
            child.returncode = 0
            return announced
        time.sleep(_LOOK_EVERY_S)
    child.kill()
    child.wait()
    reason = f"the service did not answer within {START_DEADLINE_S:g} s and was ended"
    raise Refused(f"{reason}; the end of {log}:\n{_end_of(log, begin)}", 1)


def _end_of(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])


def stop_service(service: ServiceProcess) -> bool:
    """SIGTERM, then SIGKILL; returns once it has ended, False when it had to be killed. Raises Refused."""
    for number, deadline_s in ((signal.SIGTERM, STOP_DEADLINE_S), (signal.SIGKILL, KILL_DEADLINE_S)):
        try:
            if service.alive:
                os.kill(service.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise Refused(f"the service (pid {service.pid}) is another user's: that user can stop it") from None
        deadline = time.monotonic() + deadline_s
        while service.alive and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        if not service.alive:
            return number is signal.SIGTERM
    raise Refused(f"the service (pid {service.pid}) does not end, not even by SIGKILL: the kernel holds it", 1)


def announced_url(state_dir: Path) -> str | None:
    """Where the running service listens; None when none runs, or it has not said so yet."""
    announced = _announced(state_dir)
    return announced.url if announced is not None and announced.alive else None


def in_force(settings: Settings, service: ServiceProcess | None) -> Settings:
    """The settings with what the running service keeps in their place."""
    return settings if service is None else replace(settings, **service.settings)  # type: ignore[arg-type]
