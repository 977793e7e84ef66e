"""Size, writing and reading of the series file, with points as nodes have them. Run by `python -m benchmarks.series`.

A row has all metrics of the data file: fifteen gauges of 60 samples whose count, total, least and most all vary (a
third of them whole numbers, a third walking, a third fractions), fifteen counters, three ratios, two distributions of
latencies; the others stand still. Nothing in it repeats, so it is larger than what nodes have.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from cachekeep.data.metrics import metrics
from cachekeep.domain.metrics import MetricKind, Point, Subject
from cachekeep.store.series import SeriesFile
from cachekeep.store.series_fold import used_bytes

_DAY = 1_700_006_400
_GAUGES = tuple(
    """CPUUtilization EngineCPUUtilization DatabaseMemoryUsagePercentage MemoryFragmentationRatio ReplicationLag
FreeableMemory BytesUsedForCache UsedMemoryDataset ResidentMemory AllocatorFragmentationBytes
CurrConnections CurrItems CommandsPerSecond CurrVolatileItems DB0AverageTTL""".split()  # noqa: SIM905
)
_COUNTERS = tuple(
    """NetworkBytesIn NetworkPacketsIn NetworkBytesOut NetworkPacketsOut CacheHits CacheMisses NewConnections
Evictions Reclaimed ReplicationBytes ProcessedCommands GetTypeCmds SetTypeCmds StringBasedCmds HashBasedCmds""".split()  # noqa: SIM905
)
_RATIOS = ("CacheHitRate", "GetTypeCmdsLatency", "SetTypeCmdsLatency")
_LATENCIES = ("SuccessfulReadRequestLatency", "SuccessfulWriteRequestLatency")
# Sixteen as a dashboard shows them.
SHOWN = [*_GAUGES[:3], *_GAUGES[4:7], *_GAUGES[10:12], *_COUNTERS[:7], "CacheHitRate"]


def _still() -> dict[str, Point]:
    return {
        name: Point(60.0, 420.0, 7.0, 7.0) if metric.kind is MetricKind.GAUGE else Point.of(0.0)
        for name, metric in metrics().items()
    }


def row(still: Mapping[str, Point], state: dict[str, float]) -> dict[str, Point]:
    """A minute of one node. state: what walks from minute to minute."""
    points = dict(still)
    for i, name in enumerate(_GAUGES):
        if i < 3:
            middle, spread = random.gauss(50, 5), random.random() * 3
        elif i < 5:
            # Engines tell these with few digits.
            middle, spread = round(random.gauss(1.2, 0.1), 2), random.randint(1, 9) / 100
        else:
            state[name] = state.get(name, 5e9 if i < 10 else 1e4) + random.randint(-200, 200)
            middle, spread = state[name], float(random.randint(1, 200))
        count = 59.0 if random.random() < 0.05 else 60.0
        points[name] = Point(count, middle * count, middle - spread, middle + spread)
    for i, name in enumerate(_COUNTERS):
        points[name] = Point.of(float(random.randint(0, 10 ** (2 + i % 5))))
    for name in _RATIOS:
        points[name] = Point.of(random.uniform(80, 100))
    for name in _LATENCIES:
        buckets = tuple((float(1 << b), float(random.randint(1, 5000))) for b in range(5, 17))
        points[name] = Point(sum(n for _, n in buckets), random.random() * 1e6, 16.0, 70000.0, buckets)
    return points


def measure(
    folder: Path, *, nodes: int = 10, minutes: int = 1800, writers: int = 200, writes: int = 100
) -> dict[str, float]:
    """bytes: of the file per node and minute after 30 days (fifteen of them without minutes). write_s, write_most_s:
    mean and longest write of one minute of `writers` nodes. read_PERIOD_s: 16 metrics x 24 h x `nodes`, of a file just
    opened, the last hours still open; again_PERIOD_s: the same once more. names_s: subjects and their names."""
    return _written(folder / "many.sqlite", writers, writes) | _read(folder / "long.sqlite", nodes, minutes)


def _written(path: Path, nodes: int, minutes: int) -> dict[str, float]:
    spent = sorted(_filled(path, nodes, minutes))
    return {"write_s": sum(spent) / len(spent), "write_most_s": spent[-1]}


def _read(path: Path, nodes: int, minutes: int) -> dict[str, float]:
    _filled(path, nodes, minutes)
    end = _DAY + minutes * 60
    result = {}
    for period in (60, 300, 3600):
        series = SeriesFile(path, clock=lambda: end)
        for name in ("read", "again"):
            begin = time.perf_counter()
            for subject in series.subjects():
                found = series.read(subject, SHOWN, end - 86400, end, period)
                assert all(len(column) >= 86400 // period - 1 for column in found.values())
            result[f"{name}_{period}_s"] = time.perf_counter() - begin
        begin = time.perf_counter()
        for subject in series.subjects():
            series.names(subject, end - 3 * 3600)
        result["names_s"] = time.perf_counter() - begin
        series.close()
    return result | _size(path, nodes * minutes, end)


def _size(path: Path, minutes: int, end: int) -> dict[str, float]:
    series = SeriesFile(path, clock=lambda: end)
    series.compact(end + 86400)
    query = "SELECT resolution, sum(length(body)) FROM block GROUP BY resolution"
    sizes = {resolution: size / minutes for resolution, size in series._db.execute(query)}
    overhead = used_bytes(series._db) / minutes / sum(sizes.values())
    series.close()
    return {
        "bytes": overhead * (sum(sizes.values()) - sizes[60] / 2),
        **{f"bytes_{resolution}": size for resolution, size in sizes.items()},
    }


def _filled(path: Path, nodes: int, minutes: int) -> list[float]:
    """Seconds of each write."""
    now = float(_DAY)
    series = SeriesFile(path, clock=lambda: now)
    still = _still()
    states: dict[Subject, dict[str, float]] = {Subject("r", f"n{i}", "0001"): {} for i in range(nodes)}
    spent = []
    for minute in range(minutes):
        rows = {subject: row(still, state) for subject, state in states.items()}
        now = _DAY + minute * 60.0 + 63
        begin = time.perf_counter()
        series.write(_DAY + minute * 60, rows)
        spent.append(time.perf_counter() - begin)
    assert series.trouble is None
    series.close()
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(Path(folder)).items():
            print(f"{name:>14}: {value:.4f}" if name.endswith("_s") else f"{name:>14}: {value:.0f}")


if __name__ == "__main__":
    main()
