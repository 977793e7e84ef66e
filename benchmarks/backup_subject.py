"""A filled server, and what copies of it take beside the alternatives. Called by benchmarks.backup."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.backup_engines import Server, described
from benchmarks.backup_meter import Run, backup, bare, metered
from benchmarks.backup_wire import HOST
from benchmarks.figure import Figure, Verdict, at_least, below, megabytes, noted, rate
from benchmarks.installation import BenchmarkError, wait_for
from benchmarks.keyspace import SMALL_DATABASES
from cachekeep.domain.engine import Engine

MEMORY_LIMIT_BYTES = 64e6
_SCRIPT_KEYS = 5_000
_SAVE_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Promise:
    """Keys/s; as parts of what BGSAVE managed on the machine on which those were set; and the server's work.

    server_ratio: a server has one core for the copy, so 90,000 keys/s leave it 11.1 us a key. The bare loop took 8.0 us
    of Redis there, 5.8 us of Valkey. Processor time says so of a busy machine too.
    """

    copy_keys_per_s: float
    copy_ratio: float
    nothing_to_do_ratio: float
    server_ratio: float


PROMISES = {
    Engine.REDIS: Promise(90_000, 90 / 149, 80 / 149, 1e6 / 90_000 / 8.0),
    Engine.VALKEY: Promise(110_000, 110 / 238, 80 / 238, 1e6 / 110_000 / 5.8),
}


@dataclass
class Subject:
    """place: of its backups. saves: keys/s of BGSAVE, before and after the copies. loop_us: of the bare loop, a key."""

    source: Server
    keys: int
    place: Path
    saves: list[float] = field(default_factory=list)
    loop_us: float = 0.0

    @property
    def name(self) -> str:
        return described(self.source.install)

    @property
    def promise(self) -> Promise:
        return PROMISES[self.source.install.engine]

    def bgsave(self) -> None:
        """Raises BenchmarkError."""
        begin = time.perf_counter()
        self.source.ask("BGSAVE")
        wait_for(lambda: self.source.info("persistence")["rdb_bgsave_in_progress"] == "0", _SAVE_DEADLINE_S, "BGSAVE")
        wall_s = time.perf_counter() - begin
        if self.source.info("persistence")["rdb_last_bgsave_status"] != "ok":
            raise BenchmarkError("BGSAVE failed")
        self.saves.append(self.keys / wall_s)

    def copy(self, method: str) -> tuple[Run, float]:
        """A run of the command, and the server's processor seconds. Raises BenchmarkError unless it is whole."""
        before_s = self.source.cpu_s()
        run = backup("run", self.source.url, str(self.place), "--source", method, "--anew")
        page, copied = run.page, sum(run.page["keys"].values())
        if page["verdict"] != "complete" or copied != self.keys:
            raise BenchmarkError(f"copy by {method}: {copied:,} of {self.keys:,} keys, {page['verdict']}")
        return run, self.source.cpu_s() - before_s

    def of_alternatives(self) -> Iterator[Figure]:
        """How others would read it."""
        mean = sum(self.saves) / len(self.saves)
        how = f"{self.keys:,} mixed keys, an RDB file of {megabytes(self._rdb_bytes())}; "
        how += " and ".join(map(rate, self.saves))
        yield noted(f"BGSAVE, {self.name}", mean, rate, more=self._mb(mean), how=how)
        if program := shutil.which("valkey-cli") or shutil.which("redis-cli"):
            taken = self.place.with_suffix(".taken")
            run = metered([program, "-h", HOST, "-p", str(self.source.port), "--rdb", str(taken)])
            taken.unlink()
            name, speed = Path(program).name, self.keys / run.wall_s
            yield noted(f"{name} --rdb, {self.name}", speed, rate, more=self._mb(speed), how="without the delay of 5 s")
        before_s = self.source.cpu_s()
        loop = bare("read", self.source.port, SMALL_DATABASES)
        self.loop_us = (self.source.cpu_s() - before_s) / loop["keys"] * 1e6
        how = f"SCAN COUNT 100, DUMP, PEXPIRETIME, all thrown away; {loop['keys']:,} of the keys"
        yield noted(f"bare loop, {self.name}", loop["keys"] / loop["seconds"], rate, how=how)
        loop = bare("script", self.source.port, min(_SCRIPT_KEYS, self.keys))
        how = f"a client library, 4 round trips a key; {loop['keys']:,} of the keys"
        yield noted(f"script, {self.name}", loop["keys"] / loop["seconds"], rate, how=how)

    def of_scan(self, run: Run, server_s: float) -> Iterator[Figure]:
        name, speed, promise = f"copy by scan, {self.name}", self.keys / run.work_s, self.promise
        how = cost(run, server_s)
        yield at_least(name, speed, promise.copy_keys_per_s, rate, more=self._mb(speed), how=how)
        yield against(f"copy by scan / BGSAVE, {self.name}", speed, self.saves, promise.copy_ratio)
        what, ours_us = f"server's CPU a key, copy by scan / bare loop, {self.name}", server_s / self.keys * 1e6
        yield at_most(
            what, ours_us / self.loop_us, promise.server_ratio, how=f"{ours_us:.1f} us / {self.loop_us:.1f} us"
        )
        yield memory(name, run)

    def of_psync(self, run: Run, server_s: float) -> Iterator[Figure]:
        name, speed = f"copy by psync, {self.name}", self.keys / run.work_s
        how = f"{speed / self.saves[-1]:.2f} of BGSAVE; {cost(run, server_s)}"
        yield noted(name, speed, rate, more=self._mb(speed), how=how)
        yield memory(name, run)

    def _rdb_bytes(self) -> int:
        return self.source.rdb.stat().st_size

    def _mb(self, keys_per_s: float) -> str:
        """MB/s, by the size of the RDB file: the same measure for all."""
        return f" ({keys_per_s / self.keys * self._rdb_bytes() / 1e6:.0f} MB/s)"


def against(name: str, speed: float, references: list[float], least: float) -> Figure:
    """A ratio to what was measured before and after; unclear where only one of the two meets the target."""
    ratios = sorted(speed / one for one in references)
    verdict = Verdict.MET if ratios[0] >= least else Verdict.UNCLEAR if ratios[-1] >= least else Verdict.MISSED
    middle = speed * len(references) / sum(references)
    how = f"beside {' and '.join(map(rate, references))}, before and after"
    return Figure(name, f"{middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})", f">= {least:.2f}", verdict, how, middle)


def at_most(name: str, value: float, most: float, how: str) -> Figure:
    verdict = Verdict.MET if value <= most else Verdict.MISSED
    return Figure(name, f"{value:.2f}", f"<= {most:.2f}", verdict, how, value)


def memory(name: str, run: Run) -> Figure:
    return below(f"peak memory, {name}", run.peak_bytes, MEMORY_LIMIT_BYTES, megabytes)


def cost(run: Run, server_s: float) -> str:
    """server_s: processor time of the server."""
    times = f"{run.work_s:.1f} s, with its start {run.wall_s:.1f} s"
    return f"{times}; CPU of the command {run.cpu_s:.1f} s, of the server {server_s:.1f} s"
