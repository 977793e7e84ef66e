"""Size, writing and reading of the series file, with points as nodes have them: a first, small measurement."""

from __future__ import annotations

import random
import time
from pathlib import Path

from cachekeep.domain.metrics import Point, Subject
from cachekeep.store.series import SeriesFile

_DAY = 1_700_006_400


def row(minute: int) -> dict[str, Point]:
    """110 metrics of one node: 80 still, 15 counters, 15 gauges of 60 samples (10 whole numbers, 5 fractions)."""
    points = {f"still{i}": Point.of(0.0) for i in range(80)}
    points |= {f"counter{i}": Point.of(float(random.randint(900, 1100))) for i in range(15)}
    for i in range(15):
        middle = random.gauss(50, 5) if i < 5 else float(10**6 + minute * 10 + random.randint(0, 99))
        points[f"gauge{i}"] = Point(60.0, middle * 60, middle - (random.random() if i < 5 else 5.0), middle + 7.0)
    return points


def measure(folder: Path, nodes: int, minutes: int) -> dict[str, float]:
    """Bytes per node and minute, seconds per write and per read of 16 metrics of all nodes."""
    now = _DAY + minutes * 60 + 86400
    series = SeriesFile(folder / "metrics.sqlite", clock=lambda: now)
    subjects = [Subject("r", f"n{i}", "0001") for i in range(nodes)]
    spent = []
    for m in range(minutes):
        rows = {s: row(m) for s in subjects}
        begin = time.perf_counter()
        series.write(_DAY + m * 60, rows)
        spent.append(time.perf_counter() - begin)
    series.compact(now + 2 * 86400)
    names = [f"gauge{i}" for i in range(10)] + [f"counter{i}" for i in range(3)] + ["still1", "still2", "still3"]
    result = {"write_s": sum(spent) / minutes, "bytes": series._used_bytes() / nodes / minutes}
    for period in (60, 300):
        begin = time.perf_counter()
        for subject in subjects:
            series.read(subject, names, _DAY, _DAY + minutes * 60, period)
        result[f"read_{period}_s"] = time.perf_counter() - begin
    series.close()
    return result
