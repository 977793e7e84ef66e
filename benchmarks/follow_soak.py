"""Churn of every kind for as long as one likes: nothing may differ at the end, and memory may not grow.

The churn and the comparison are those of the tests, which share nothing with the product.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.backup_engines import Server, described, server
from benchmarks.backup_meter import backup
from benchmarks.backup_wire import HOST
from benchmarks.figure import Figure, Verdict, below, megabytes
from benchmarks.follow_run import Capture, Sample
from benchmarks.installation import BenchmarkError
from cachekeep.domain.engine import EngineInstall

_TESTS = Path(__file__).resolve().parent.parent / "tests" / "engines"
_COMMANDS_PER_S = 3000
_GROWTH_LIMIT = 1.10
_SEED = 4


@dataclass(frozen=True)
class _Read:
    """As the tests' code knows servers."""

    port: int
    version: str
    host: str = HOST


def soak(install: EngineInstall, method: str, seconds: int, place: Path) -> Iterator[Figure]:
    churn_of, truth_of = _of_tests("churn"), _of_tests("truth")
    with server(install) as source, server(install) as target:
        here, there = _known(source), _known(target)
        with churn_of.Churn([here], seed=_SEED, commands_per_s=_COMMANDS_PER_S) as churn:
            churn.fill(3000)
            with Capture(source.url, place, method, "--max-lag", "1s") as capture:
                churn.resume()
                capture.follows()
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    churn.do(_COMMANDS_PER_S)
                churn.pause()
                capture.covered(time.time_ns() // 1_000_000 + 3000)
                truth = truth_of.record(here)
                sealed, samples = capture.seal(), capture.samples
            commands = churn.done
        name = f"{seconds} s of churn by {method}, {described(install)}"
        backup("restore", str(place), target.url)
        alike = truth_of.as_replica(here.version) if method == "psync" else truth_of.EXACT
        found = truth_of.compare(truth, truth_of.record(there), alike)
        how = f"{commands:,} commands of every kind, {len(sealed['gaps'])} gaps, {samples[-1].status['missed']} missed"
        wrong = (
            len(found.missing) + len(found.extra) + len(found.different) + len(found.expiries) + len(found.functions)
        )
        verdict = Verdict.MISSED if found or found.compared < 100 else Verdict.MET
        shown = f"{wrong} of {found.compared:,}" if not found else str(found)[:200]
        yield Figure(f"differences after {name}", shown, "0", verdict, how, wrong)
        yield _flat(f"follower's memory after {name}", samples)


def _of_tests(name: str) -> Any:
    sys.path.insert(0, str(_TESTS))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(_TESTS))


def _known(it: Server) -> _Read:
    return _Read(it.port, ".".join(str(it.install.version).split(".")[:2]))


def _flat(name: str, samples: list[Sample]) -> Figure:
    """What it had most of in the last quarter, beside what it had most of in the second one."""
    if len(samples) < 8:
        raise BenchmarkError(f"only {len(samples)} statuses came")
    quarter = len(samples) // 4
    early = max(sample.rss_bytes for sample in samples[quarter : 2 * quarter])
    late = max(sample.rss_bytes for sample in samples[-quarter:])
    how = f"{megabytes(early)} in the second quarter, {megabytes(late)} in the last"
    return below(name, late / early, _GROWTH_LIMIT, lambda ratio: f"{ratio:.2f}", how=how)
