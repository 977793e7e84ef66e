"""The series store: the same answers as a deliberately dumb one, whatever was folded, killed, damaged or full."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.domain.metrics import Point, Subject
from cachekeep.store.series import Retention, SeriesFile
from tests.unit.store.dumb_series import DumbSeries

NOON = 1_700_000_000 - 1_700_000_000 % 86400 + 43200
NODES = [Subject("r", "a", "0001"), Subject("r", "b")]
NAMES = ["CPU", "Hits", "Latency"]

# Quarters add up without rounding, in any order.
QUARTERS = st.integers(-(10**6), 10**6).map(lambda n: n / 4)
SINGLE = QUARTERS.map(Point.of)
SETS = st.builds(
    lambda n, total, ends, buckets: Point(float(n), total, min(ends), max(ends), tuple(sorted(buckets.items()))),
    st.integers(1, 60),
    QUARTERS,
    st.tuples(QUARTERS, QUARTERS),
    st.dictionaries(st.sampled_from([1.0, 2.5, 100.0]), st.integers(1, 9).map(float), max_size=3),
)
ROWS = st.dictionaries(st.sampled_from(NODES), st.dictionaries(st.sampled_from(NAMES), SINGLE | SETS), min_size=1)
WRITES = st.lists(st.tuples(st.integers(-1500, 1500), ROWS, st.booleans()), min_size=1, max_size=15)


@settings(max_examples=25, deadline=None)
@given(WRITES, st.integers(-1600, 1600), st.integers(0, 3000), st.sampled_from([60, 120, 300, 420, 3600, 86400]))
def test_reads_are_those_of_a_dumb_store(
    writes: Sequence[tuple[int, dict[Subject, dict[str, Point]], bool]], first: int, length: int, period: int
) -> None:
    dumb = DumbSeries()
    with tempfile.TemporaryDirectory() as folder:
        series = SeriesFile(Path(folder) / "m.sqlite", clock=lambda: NOON + 3 * 86400)
        for minute, rows, compacted in writes:
            for store in (dumb, series):
                store.write(NOON + minute * 60, rows)
            if compacted:
                series.compact(NOON + 3 * 86400)
        start = NOON + first * 60
        for node in NODES:
            asked = (node, NAMES, start, start + length * 60, period)
            assert series.read(*asked) == dumb.read(*asked)
            assert series.names(node, start) == dumb.names(node, start)
        assert series.subjects() == dumb.subjects()
        assert series.trouble is None
        series.close()


def _filled(path: Path, minutes: int = 300, retention: Retention | None = None) -> SeriesFile:
    series = SeriesFile(path, retention, clock=lambda: NOON + minutes * 60)
    for m in range(minutes):
        series.write(NOON + m * 60, {NODES[0]: {"CPU": Point.of(float(m % 7)), "Hits": Point(2.0, m + 0.1, 0.0, m)}})
    return series


def test_old_points_become_coarser_and_then_go(tmp_path: Path) -> None:
    series = _filled(tmp_path / "m.sqlite")
    asked = (NODES[0], ["CPU"], NOON, NOON + 300 * 60)
    exact = {period: series.read(*asked, period) for period in (300, 3600)}
    seen = []
    for hours in range(0, 24 * 460, 6):
        series.compact(NOON + hours * 3600)
        found = series.read(*asked, 60)["CPU"].starts
        seen.append(len(found))
        if len(found) in (60, 5):
            assert series.read(*asked, 300 if len(found) == 60 else 3600) == exact[300 if len(found) == 60 else 3600]
    assert list(dict.fromkeys(seen)) == [300, 60, 5, 0]
    series.close()


def test_a_clock_that_jumps_ahead_does_not_cost_the_history(tmp_path: Path) -> None:
    series = _filled(tmp_path / "m.sqlite")
    series.compact(NOON + 400 * 60)
    series.compact(NOON + 3650 * 86400)
    assert len(series.read(NODES[0], ["CPU"], NOON, NOON + 300 * 60, 60)["CPU"]) == 300
    series.write(NOON + 3650 * 86400, {NODES[0]: {"CPU": Point.of(1.0)}})
    assert "check the clock" in (series.trouble or "")
    series.close()


def test_a_full_disk_keeps_minutes_in_memory_until_there_is_room(tmp_path: Path) -> None:
    series = _filled(tmp_path / "m.sqlite", 5)
    pages = series._db.execute("PRAGMA page_count").fetchone()[0]
    series._db.execute(f"PRAGMA max_page_count={pages}")
    noise = {f"m{i}": Point.of(float.fromhex(f"0x1.{os.urandom(6).hex()}p3")) for i in range(2000)}
    for m in range(5):
        series.write(NOON + m * 60, {NODES[1]: noise})
    assert "wait in memory" in (series.trouble or "")
    assert len(series.read(NODES[1], ["m7"], NOON, NOON + 300, 60)["m7"]) == 5
    series._db.execute("PRAGMA max_page_count=100000")
    series.write(NOON, {NODES[1]: noise})
    assert series.trouble is None
    series.close()
    again = SeriesFile(tmp_path / "m.sqlite", clock=lambda: NOON)
    assert len(again.read(NODES[1], ["m7"], NOON, NOON + 300, 60)["m7"]) == 5
    again.close()


@pytest.mark.parametrize("damage", ["not sqlite", "truncated"])
def test_a_damaged_file_is_moved_aside_and_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.sqlite"
    _filled(path, 30).close()
    whole = path.read_bytes()
    path.write_bytes(b"x" * 9000 if damage == "not sqlite" else whole[: len(whole) // 2])
    series = SeriesFile(path, clock=lambda: NOON)
    series.write(NOON, {NODES[0]: {"CPU": Point.of(1.0)}})
    assert "damaged" in (series.trouble or "")
    assert list(tmp_path.glob("m.sqlite.damaged-*"))
    assert len(series.read(NODES[0], ["CPU"], NOON, NOON + 60, 60)["CPU"]) == 1
    series.close()


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os,sys,signal;from pathlib import Path;from tests.unit.store.test_series import _filled;"
        "_filled(Path(sys.argv[1]));os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.sqlite")], check=False, timeout=60)
    series = SeriesFile(tmp_path / "m.sqlite", clock=lambda: NOON)
    assert len(series.read(NODES[0], ["Hits"], NOON, NOON + 300 * 60, 60)["Hits"]) == 300
    assert series.trouble is None
    series.close()
