"""All that monitoring promises: what it costs, how large its file becomes, how fast it answers."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

from benchmarks import cloudwatch, collecting, metering, series
from benchmarks.figure import Figure, below, megabytes, milliseconds, noted
from benchmarks.installation import BenchmarkError, installation
from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

PAIRS = 10
NODES, DAYS = 200, 30
FILE_LIMIT_BYTES = 2e9
WRITE_LIMIT_S = 0.1


def measure() -> Generator[Figure, None, None]:
    install = MachineCatalogue().best(Engine.VALKEY, None)
    if install is None:
        raise BenchmarkError("no Valkey on this machine")
    yield from collecting.measure()
    yield from metering.of_engine(install, PAIRS)
    with tempfile.TemporaryDirectory(prefix="cachekeep-bench-") as folder:
        yield from _of_series(series.measure(Path(folder)))
    with installation() as it:
        yield from cloudwatch.measure(it)


def _of_series(found: dict[str, float]) -> Generator[Figure, None, None]:
    size = found["bytes"] * NODES * DAYS * 24 * 60
    how = f"{found['bytes']:.0f} bytes a node and minute, of 30 h of 10 nodes; ten noisy metrics and more in each"
    yield below(f"{DAYS} days of {NODES} nodes at 60 s", size, FILE_LIMIT_BYTES, megabytes, how=how)
    more = f" (longest {found['write_most_s'] * 1000:.0f})"
    yield below(f"writing a minute of {NODES} nodes", found["write_s"], WRITE_LIMIT_S, milliseconds, more=more)
    for period in (60, 300, 3600):
        what = f"reading 16 metrics x 24 h x 10 nodes from the file, period {period} s"
        yield noted(what, found[f"read_{period}_s"], milliseconds, how="of a file just opened; part of GetMetricData")
