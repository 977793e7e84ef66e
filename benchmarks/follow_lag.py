"""How late a followed change is, at a rate that is usual and at ten times that; and how much PSYNC takes in."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.backup_engines import Server, described, server
from benchmarks.backup_meter import metered
from benchmarks.backup_wire import Wire
from benchmarks.figure import Figure, Verdict, below, megabytes, noted, rate
from benchmarks.follow_load import WRITTEN
from benchmarks.follow_run import Capture, Sample
from benchmarks.installation import BenchmarkError
from cachekeep.backup.catalog import Repository
from cachekeep.backup.reader import GenerationReader
from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.engine import EngineInstall

KEYS = 50_000
USUAL, HIGH = 3_000, 30_000
USUAL_S, HIGH_S = 15, 20
LAG_LIMIT_S = 0.1
# What is resident may grow by so much from one half of a run to the other: buffers that are filled for the first time.
GROWTH_LIMIT = 1.25
COMMANDS_PER_S = 300_000
_COMMANDS, _A_SCRIPT = 3_000_000, 20_000
_FILL = f"for i = 1, {_A_SCRIPT} do redis.call('SET', KEYS[1] .. i % 1000, ARGV[1]) end"
_KEPT_UP, _MAX_LAG_S = 1.1, 1.5
_UNLIMITED = ("--client-output-buffer-limit", "replica 0 0 0")


def at_rates(install: EngineInstall, method: str, place: Path) -> Iterator[Figure]:
    name = f"by {method}, {described(install)}"
    for changes_per_s, seconds in ((USUAL, USUAL_S), (HIGH, HIGH_S)):
        where = place / f"{method}-{changes_per_s}"
        with server(install) as source:
            _load(source, 0, KEYS)
            with Capture(source.url, where, method, "--max-lag", "1s", "--reconcile", "0") as capture:
                capture.follows()
                began = len(capture.samples)
                before_s, _ = capture.now()
                took_s = _load(source, changes_per_s, changes_per_s * seconds)
                after_s, _ = capture.now()
                capture.covered(time.time_ns() // 1_000_000)
                sealed, samples = capture.seal(), capture.samples[began:]
        lags = _lags_s(where, sealed["generations"])
        p50, p99 = statistics.median(lags), lags[len(lags) * 99 // 100]
        # A record says the moment up to which it knows; when it was read, the capture itself counts.
        p99 = max(p99, *((sample.status["lag_p99_ms"] or 0.0) / 1000 for sample in samples))
        how = f"{len(lags):,} of {changes_per_s * seconds:,} SETs of {KEYS:,} keys seen; the follower took"
        how += f" {(after_s - before_s) / took_s * 100:.0f} % of a core; gaps {len(sealed['gaps'])}"
        title, more = f"lag p99 at {changes_per_s:,} changes/s, {name}", f", p50 {_ms(p50)}"
        if changes_per_s == USUAL:
            yield below(title, p99, LAG_LIMIT_S, _ms, more=more, how=how)
        else:
            yield noted(title, p99, _ms, more=more, how=how)
        yield _growth(f"at {changes_per_s:,} changes/s, {name}", samples)


def _growth(name: str, samples: list[Sample]) -> Figure:
    """Of the resident memory, from the middle of the run to its end."""
    if len(samples) < 4:
        raise BenchmarkError(f"only {len(samples)} statuses came while it ran")
    middle, last = samples[len(samples) // 2], samples[-1]
    ratio = last.rss_bytes / middle.rss_bytes
    queue = [sample.status["queue_keys"] for sample in samples]
    how = f"middle {megabytes(middle.rss_bytes)}, end {megabytes(last.rss_bytes)}, most"
    how += f" {megabytes(max(sample.rss_bytes for sample in samples))}; queue at most {max(queue):,} keys"
    verdict = Verdict.MET if ratio <= GROWTH_LIMIT else Verdict.MISSED
    return Figure(f"follower's memory, end / middle, {name}", f"{ratio:.2f}", f"<= {GROWTH_LIMIT}", verdict, how, ratio)


def of_commands(install: EngineInstall, place: Path) -> Iterator[Figure]:
    """Scripts write inside of the server, so that making the commands costs next to nothing of this machine."""
    with (
        server(install, *_UNLIMITED) as source,
        Capture(source.url, place / "commands", "psync", "--max-lag", "1s") as capture,
    ):
        capture.follows()
        before_s, _ = capture.now()
        before_bytes, begin = _offset(source), time.monotonic()
        with Wire(source.port) as wire:
            for at in range(_COMMANDS // _A_SCRIPT):
                wire.ask("EVAL", _FILL, 1, f"key:{at % 10}:", "v" * 64)
        done_s, moment_ms = time.monotonic() - begin, time.time_ns() // 1_000_000
        seen = capture.until(lambda one: (one["durable_until_ms"] or 0) >= moment_ms, "all of it is durable")
        took_s, (after_s, rss) = seen.at_s - begin, capture.now()
        size = _offset(source) - before_bytes
        capture.seal()
    how = f"{_COMMANDS:,} SETs in scripts, {size / 1e6:,.0f} MB, until all were durable; the server alone took"
    how += f" {done_s:.1f} s; the follower {(after_s - before_s) / _COMMANDS * 1e6:.2f} us each, {megabytes(rss)}"
    name = f"commands by psync into segments, {described(install)}"
    verdict = Verdict.MISSED
    if took_s <= _COMMANDS / COMMANDS_PER_S:
        verdict = Verdict.MET
    elif took_s <= done_s * _KEPT_UP + _MAX_LAG_S:  # the source was no faster
        verdict = Verdict.UNCLEAR
    shown = f"{rate(_COMMANDS / took_s)} ({size / took_s / 1e6:.0f} MB/s)"
    yield Figure(name, shown, f">= {rate(COMMANDS_PER_S)}", verdict, how, _COMMANDS / took_s)


def _offset(source: Server) -> int:
    return int(source.info("replication")["master_repl_offset"])


def _load(source: Server, changes_per_s: int, changes: int) -> float:
    words = map(str, (source.port, changes_per_s, changes, KEYS))
    return float(metered([sys.executable, "-m", "benchmarks.follow_load", *words]).page["seconds"])


def _lags_s(place: Path, generations: list[str]) -> list[float]:
    """In order of size: of every change that is in the backup, from its being sent to its being there."""
    repository, lags = Repository.open(LocalBlobs(place)), list[float]()
    for name in generations:
        for record in GenerationReader.open(repository, name, unfinished=True).records(("changes", "commands")):
            lags += [(record.captured_ms - int(at)) / 1000 for at in WRITTEN.findall(record.payload)]
    if len(lags) < 1000:
        raise BenchmarkError(f"only {len(lags)} changes are in the backup")
    return sorted(max(0.0, lag) for lag in lags)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
