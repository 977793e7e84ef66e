"""Restores of a copy: into an empty server, and where nothing is to be done. Called by benchmarks.backup."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.backup_engines import Server, server
from benchmarks.backup_meter import Run, backup, bare
from benchmarks.backup_subject import Subject, against, cost, memory
from benchmarks.figure import Figure, at_least, rate
from benchmarks.installation import BenchmarkError
from benchmarks.keyspace import SMALL_DATABASES

RESTORE_KEYS_PER_S, NOTHING_TO_DO_KEYS_PER_S = 150_000, 80_000
# 150,000 keys/s where RESTORE commands from a file went into the server at 208,000.
RESTORE_RATIO = 0.72


def measure(it: Subject, generation: str) -> Iterator[Figure]:
    """generation: the copy of the subject that is restored. Raises BenchmarkError."""
    raw = [_bare_loop(it)]
    with server(it.source.install) as target:
        full, full_server_s = _restored(it, generation, target, "written")
        raw.append(_bare_loop(it))
        nothing, nothing_server_s = _restored(it, generation, target, "kept")
    name, speed = f"restore into an empty server, {it.name}", it.keys / full.work_s
    yield at_least(name, speed, RESTORE_KEYS_PER_S, rate, how=cost(full, full_server_s))
    yield against(f"restore / bare loop of RESTORE, {it.name}", speed, raw, RESTORE_RATIO)
    yield memory(f"restore, {it.name}", full)
    name, speed = f"restore that finds nothing to do, {it.name}", it.keys / nothing.work_s
    yield at_least(name, speed, NOTHING_TO_DO_KEYS_PER_S, rate, how=cost(nothing, nothing_server_s))
    yield against(f"nothing to do / BGSAVE, {it.name}", speed, it.saves, it.promise.nothing_to_do_ratio)
    yield memory(name, nothing)


def _restored(it: Subject, generation: str, target: Server, outcome: str) -> tuple[Run, float]:
    """The run and the server's processor seconds. Every key has to have the outcome, and to be there."""
    before_s = target.cpu_s()
    run = backup("restore", str(it.place), target.url, "--id", generation)
    counted, held = sum(counts[outcome] for counts in run.report["databases"].values()), target.keys()
    if counted != it.keys or held != it.keys:
        raise BenchmarkError(f"restore: of {it.keys:,} keys {counted:,} {outcome}, {held:,} on the target")
    return run, target.cpu_s() - before_s


def _bare_loop(it: Subject) -> float:
    """Keys/s into an empty server, of the small databases."""
    with server(it.source.install) as target:
        loop = bare("restore", it.source.port, target.port, SMALL_DATABASES)
    return float(loop["keys"]) / float(loop["seconds"])
