"""Following a source: how late it is, what it costs the source and this machine, and that none of it grows.

Absolute targets are the product's; beside every cost stands what the alternatives cost in the same run, for a machine
that is slower or busy. Lateness is measured from outside: every value names the ms in which it was sent, every record
of the backup the ms in which it came. Needs no installation.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import follow_cost, follow_lag, follow_soak
from benchmarks.backup_engines import described, engines
from benchmarks.figure import Figure, failed
from benchmarks.installation import BenchmarkError


def measure(soak_s: int) -> Generator[Figure, None, None]:
    """Figures as they come, so that a run which is stopped shows what it had. soak_s: 0 leaves the soak away."""
    installs = engines()
    with _folder() as folder:
        for install in installs:
            name, place = described(install), folder / install.engine.value
            place.mkdir()
            yield from _part(f"cost to the source, {name}", follow_cost.side_by_side(install, place))
            for method in ("tracking", "psync"):
                yield from _part(f"lag by {method}, {name}", follow_lag.at_rates(install, method, place))
            yield from _part(f"commands by psync, {name}", follow_lag.of_commands(install, place))
        if soak_s:
            for method in ("tracking", "psync"):
                place = folder / f"soak-{method}"
                yield from _part(f"soak by {method}", follow_soak.soak(installs[-1], method, soak_s, place))


def _part(name: str, figures: Iterator[Figure]) -> Iterator[Figure]:
    """One part failing is no reason to miss the others."""
    print(f"measuring: follow: {name} ...", file=sys.stderr, flush=True)
    try:
        yield from figures
    except (BenchmarkError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        yield failed(f"follow: {name}", str(error))


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cachekeep-bench-follow-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
