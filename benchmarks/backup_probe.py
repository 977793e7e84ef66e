"""What other clients of a server feel: 500 GETs a second over 10 connections, in a process of its own.

`python -m benchmarks.backup_probe PORT KEY` says `ready`, goes on until its input is closed, then prints a JSON list of
[moment, seconds]: when each was sent, by the monotonic clock, and how long its answer took. Sending never waits for
answers, so that a stall is felt by all that would have come meanwhile. What this process itself waits for a core is
in it too: hence the priority, where that is allowed, and the idle figure beside every other.
"""

from __future__ import annotations

import gc
import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from libvalkey import pack_command

from benchmarks.backup_meter import end
from benchmarks.backup_wire import Wire
from benchmarks.installation import BenchmarkError

_CONNECTIONS = 10
_EVERY_S = 1 / 500
_PRIORITY = -10
_END_S = 20


@dataclass
class Felt:
    """moments, delays_s: of every GET, in order; there once the probe has ended."""

    moments: list[float] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)

    def between(self, begin_s: float, end_s: float) -> list[float]:
        """In order of size. Raises BenchmarkError when too few are there to speak of a hundredth."""
        found = [delay for at, delay in zip(self.moments, self.delays_s, strict=True) if begin_s <= at <= end_s]
        if len(found) < 100:
            raise BenchmarkError(f"only {len(found)} GETs fell into what was to be watched; take more keys")
        return sorted(found)


def p99(ordered: list[float]) -> float:
    return ordered[len(ordered) * 99 // 100]


@contextmanager
def probing(port: int, key: str) -> Iterator[Felt]:
    """GETs are on their way while the block runs; what they felt is known after it."""
    felt = Felt()
    argv = [sys.executable, "-m", "benchmarks.backup_probe", str(port), key]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise BenchmarkError("the probe did not start")
        yield felt
        output, _ = process.communicate(timeout=_END_S)  # closes its input
        if process.returncode:
            raise BenchmarkError(f"the probe ended with {process.returncode}")
        pairs = json.loads(output)
        felt.moments, felt.delays_s = [at for at, _ in pairs], [delay for _, delay in pairs]
    finally:
        end(process)
        process.stdin.close()
        process.stdout.close()


class _Client(Wire):
    """sent: moments of GETs that are not answered yet."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.sent = deque[float]()


def _probe(port: int, key: str) -> list[tuple[float, float]]:
    with ExitStack() as stack:
        clients = deque(stack.enter_context(_Client(port)) for _ in range(_CONNECTIONS))
        print("ready", flush=True)
        return _felt(clients, pack_command(("GET", key)))


def _felt(clients: deque[_Client], request: bytes) -> list[tuple[float, float]]:
    """Until the input is closed."""
    seen: list[tuple[float, float]] = []
    due_s = time.monotonic()
    while True:
        wait_s = due_s - time.monotonic()
        if wait_s <= 0:
            client = clients[0]
            clients.rotate()
            client.sent.append(time.monotonic())
            client.send(request)
            due_s += _EVERY_S
            continue
        readable, _, _ = select.select([sys.stdin, *clients], [], [], wait_s)
        for one in readable:
            if not isinstance(one, _Client):
                return seen
            one.take()
            for _ in one.held(len(one.sent)):
                at = one.sent.popleft()
                seen.append((at, time.monotonic() - at))


if __name__ == "__main__":
    gc.disable()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    print(json.dumps(_probe(int(sys.argv[1]), sys.argv[2])))
