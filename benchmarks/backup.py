"""Copies and restores beside the alternatives, all in one run: absolute figures, and ratios.

The absolute targets were set on one machine (BGSAVE of redis 7.0.15: 149,000 keys/s there). A ratio to what was
measured beside it says the same of any other machine, and of one that is busy. Needs no installation.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import backup_cluster, backup_latency, backup_restore
from benchmarks.backup_engines import described, engines, server
from benchmarks.backup_meter import metered
from benchmarks.backup_subject import Subject
from benchmarks.figure import Figure, failed
from benchmarks.installation import BenchmarkError
from cachekeep.domain.engine import Engine, EngineInstall

KEYS, FEWEST_KEYS = 1_000_000, 200_000
_CLUSTER_SHARE = 0.3


def measure(keys: int) -> Generator[Figure, None, None]:
    """Figures as they come, so that a run which is stopped shows what it had."""
    installs = engines()
    if not any(one.engine is Engine.REDIS for one in installs):
        yield failed("backup of redis 7.0", "needs a redis-server 7.0 (on Debian 12: apt-get install redis-server)")
    with _folder() as folder:
        rdb: Path | None = None
        for install in installs:
            kept = folder / f"{install.engine.value}.rdb"
            yield from _part(f"copies and restores, {described(install)}", _engine(install, keys, rdb, kept))
            rdb = kept if kept.exists() else None
        for install in installs:
            place = folder / f"hash-{install.engine.value}"
            yield from _part(f"stalls, {described(install)}", backup_latency.stall_of_a_large_hash(install, place))
        some, place = int(keys * _CLUSTER_SHARE), folder / "cluster"
        yield from _part("a cluster", backup_cluster.side_by_side(installs[-1], some, place))


def _engine(install: EngineInstall, keys: int, rdb: Path | None, kept: Path) -> Iterator[Figure]:
    """All figures of one filled server. rdb: a file to fill it from; kept: where its own is left for the next one.

    Valkey loads what Redis 7.0 wrote, which takes less time than filling it too.
    """
    place = kept.with_suffix("")
    with server(install, rdb=rdb) as source:
        if rdb is None:
            metered([sys.executable, "-m", "benchmarks.keyspace", str(source.port), str(keys)])
        it = Subject(source, source.keys(), place)
        it.bgsave()
        by_scan, by_scan_server_s = it.copy("scan")
        by_psync = it.copy("psync")
        it.bgsave()
        yield from it.of_alternatives()
        yield from it.of_scan(by_scan, by_scan_server_s)
        yield from it.of_psync(*by_psync)
        shutil.move(source.rdb, kept)
        yield from backup_latency.clients_beside_a_copy(source, place.with_suffix(".small"))
        yield from backup_restore.measure(it, by_scan.page["generation"])
    shutil.rmtree(place)


def _part(name: str, figures: Iterator[Figure]) -> Iterator[Figure]:
    """One part failing is no reason to miss the others."""
    print(f"measuring: backup: {name} ...", file=sys.stderr, flush=True)
    try:
        yield from figures
    except (BenchmarkError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        yield failed(f"backup: {name}", str(error))


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cachekeep-bench-backup-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
