"""`python -m benchmarks.failover_load HOST PORT NAME [--cluster]`: increment counters until SIGTERM, then tell as JSON.

In a process of its own, so that what is measured is not the other's interpreter. One connection to each node, one
command at a time; a connection that breaks is made again at once. Moments are of the monotonic clock, which all
processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from libvalkey import ReplyError, pack_command

from benchmarks.failover_wire import AGAIN_S, Line, Place, ask
from benchmarks.installation import BenchmarkError
from cachekeep.codec.slots import slot_of

COUNTERS = 200
FLOOR_S = 0.001
_END_S = 20.0


@dataclass
class Told:
    """acknowledged: how many increments of each counter. pauses: (begin, end) between accepted writes, above FLOOR_S.

    errors: refusals by their first word. broken: writes that were sent and not answered; they may count or not.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    broken: int = 0

    @property
    def total(self) -> int:
        return sum(self.acknowledged.values())

    def longest(self, begin: float, end: float) -> float:
        return max((till - since for since, till in self.pauses if since < end and till > begin), default=0.0)


class Incrementing:
    """The loop of the process."""

    def __init__(self, start: Place, name: str, cluster: bool) -> None:
        self.told = Told({f"{name}:{n}": 0 for n in range(COUNTERS)})
        self.ending = False
        self._start, self._cluster = start, cluster
        self._lines: dict[Place, Line] = {}
        self._owners: dict[int, Place] = {}
        self._accepted = time.monotonic()

    def run(self) -> None:
        commands = [(key, slot_of(key.encode()), pack_command(("INCR", key))) for key in self.told.acknowledged]
        at = 0
        while not self.ending:
            key, slot, packed = commands[at % len(commands)]
            if self._write(slot, packed):
                now = time.monotonic()
                self.told.acknowledged[key] += 1
                if now - self._accepted > FLOOR_S:
                    self.told.pauses.append((self._accepted, now))
                self._accepted = now
                at += 1
        now = time.monotonic()
        self.told.pauses.append((self._accepted, now))

    def _write(self, slot: int, packed: bytes) -> bool:
        place, sent = self._owners.get(slot, self._start), False
        try:
            line = self._line(place)
            line.send(packed)
            sent = True
            return self._accept(line.receive(), slot, packed)
        except OSError:
            self.told.broken += sent
            self._drop(place)
            time.sleep(AGAIN_S)
            return False

    def _accept(self, reply: Any, slot: int, packed: bytes) -> bool:
        if not isinstance(reply, ReplyError):
            return True
        words = str(reply).split()
        self.told.errors[words[0]] = self.told.errors.get(words[0], 0) + 1
        if words[0] == "MOVED":
            self._owners[slot] = _place(words[2])
        elif words[0] == "ASK":
            line = self._line(_place(words[2]))
            line.send(pack_command(("ASKING",)) + packed)
            line.receive()
            return self._accept(line.receive(), slot, packed)
        else:
            time.sleep(AGAIN_S)
        return False

    def _line(self, place: Place) -> Line:
        if place not in self._lines:
            self._lines[place] = Line(place, 2.0)
        return self._lines[place]

    def _drop(self, place: Place) -> None:
        """A connection broke. In cluster mode the slots of that node are looked for from the start again."""
        if line := self._lines.pop(place, None):
            line.close()
        if self._cluster:
            self._owners = {slot: owner for slot, owner in self._owners.items() if owner != place}


def _place(text: str) -> Place:
    host, _, port = text.rpartition(":")
    return host, int(port)


@dataclass
class Load:
    """Running processes; `told` is there once they have ended. names: what their counters begin with."""

    processes: list[subprocess.Popen[str]]
    names: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    def so_far(self, place: Place) -> int:
        """Increments that a node holds, while the writers run (not in cluster mode)."""
        keys = [f"{name}:{n}" for name in self.names for n in range(COUNTERS)]
        return sum(int(value or 0) for value in ask(place, "MGET", *keys))

    @property
    def acknowledged(self) -> int:
        return sum(it.total for it in self.told)

    def longest(self, begin: float, end: float) -> float:
        return max(it.longest(begin, end) for it in self.told)

    def errors(self, *, beside: Sequence[str] = ()) -> dict[str, int]:
        found: dict[str, int] = {}
        for it in self.told:
            for word, times in it.errors.items():
                if word not in beside:
                    found[word] = found.get(word, 0) + times
        return found

    @property
    def broken(self) -> int:
        return sum(it.broken for it in self.told)

    def lost(self, start: Place, *, cluster: bool) -> int:
        """Acknowledged increments that the counters do not have."""
        return sum(
            max(0, count - _value(start, key, cluster)) for it in self.told for key, count in it.acknowledged.items()
        )


def _value(start: Place, key: str, cluster: bool) -> int:
    place = start
    for _ in range(5):
        with Line(place, 5.0) as line:
            reply = line.ask("GET", key)
        if not isinstance(reply, ReplyError):
            return int(reply or 0)
        words = str(reply).split()
        if not (cluster and words[0] == "MOVED"):
            raise BenchmarkError(f"GET was answered {reply}")
        place = _place(words[2])
    raise BenchmarkError(f"{key} is moved round and round")


@contextmanager
def load(start: Place, writers: int, *, cluster: bool = False) -> Iterator[Load]:
    """Writers for the length of a block. Raises BenchmarkError when one of them fails."""
    ask(start, "PING")
    argv = [sys.executable, "-m", "benchmarks.failover_load", start[0], str(start[1])]
    made: list[subprocess.Popen[str]] = []
    it = Load(made)
    try:
        for n in range(writers):
            it.names.append(f"load{n}-{time.monotonic_ns()}")
            more = [it.names[-1], *(["--cluster"] if cluster else [])]
            made.append(subprocess.Popen(argv + more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
        for process in made:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise BenchmarkError("a writer could not start")
        yield it
        for process in made:
            process.terminate()
        for process in made:
            it.told.append(_read(process))
    finally:
        for process in made:
            process.kill()
            process.wait(_END_S)


def _read(process: subprocess.Popen[str]) -> Told:
    out, _ = process.communicate(timeout=_END_S)
    if process.returncode:
        raise BenchmarkError(f"a writer ended with {process.returncode}")
    told = json.loads(out)
    told["pauses"] = [(since, till) for since, till in told["pauses"]]
    return Told(**told)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover_load")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("--cluster", action="store_true")
    options = parser.parse_args()
    it = Incrementing((options.host, options.port), options.name, options.cluster)

    def end(number: int, frame: FrameType | None) -> None:
        it.ending = True

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    it.run()
    json.dump(vars(it.told), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
