"""The series store: the same answers as a deliberately dumb one, whatever was folded, rolled up or forgotten."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.domain.metrics import Point, Subject
from cachekeep.store.series import Retention, SeriesFile
from cachekeep.store.series_fold import used_bytes
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
WRITES = st.lists(st.tuples(st.integers(-1400, 1400), ROWS, st.booleans()), min_size=1, max_size=15)


@settings(max_examples=25, deadline=None)
@given(WRITES, st.integers(-1600, 1600), st.integers(0, 3000), st.sampled_from([60, 120, 300, 420, 3600, 86400]))
def test_reads_are_those_of_a_dumb_store(
    writes: Sequence[tuple[int, dict[Subject, dict[str, Point]], bool]], first: int, length: int, period: int
) -> None:
    dumb = DumbSeries()
    with tempfile.TemporaryDirectory() as folder:
        clock = [NOON]
        series = SeriesFile(Path(folder) / "m.sqlite", clock=lambda: clock[0])
        for minute, rows, compacted in writes:
            clock[0] = NOON + minute * 60
            for store in (dumb, series):
                store.write(NOON + minute * 60, rows)
            if compacted:
                series.compact(NOON + 3 * 86400)
        start = NOON + first * 60
        for node in NODES:
            asked = (node, NAMES, start, start + length * 60, period)
            assert series.read(*asked) == dumb.read(*asked)
            # A minute that is replaced by one with less was still seen.
            assert series.names(node, start) >= dumb.names(node, start)
            if len({minute for minute, _, _ in writes}) == len(writes):
                assert series.names(node, start) == dumb.names(node, start)
        assert set(series.subjects()) >= set(dumb.subjects())
        assert series.trouble is None
        series.close()


def _filled(path: Path, minutes: int = 300, retention: Retention | None = None) -> SeriesFile:
    clock = [NOON]
    series = SeriesFile(path, retention, clock=lambda: clock[0])
    for m in range(minutes):
        clock[0] = NOON + m * 60
        series.write(NOON + m * 60, {NODES[0]: {"CPU": Point.of(float(m % 7)), "Hits": Point(2.0, m + 0.1, 0.0, m)}})
    return series


def test_old_points_become_coarser_and_then_go(tmp_path: Path) -> None:
    series = _filled(tmp_path / "m.sqlite", retention=Retention(2, 6, 30))
    asked = (NODES[0], ["CPU"], NOON, NOON + 300 * 60)
    exact = {period: series.read(*asked, period) for period in (300, 3600)}
    seen = []
    for hours in range(6, 24 * 50, 6):
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


def test_a_file_that_is_too_large_loses_its_oldest(tmp_path: Path) -> None:
    most = 400_000
    retention = Retention(most_bytes=most)
    clock = [NOON]
    series = SeriesFile(tmp_path / "m.sqlite", retention, clock=lambda: clock[0])
    for m in range(0, 2400, 4):
        clock[0] = NOON + m * 60
        noise = {f"m{i}": Point.of(random.random()) for i in range(60)}
        series.write(NOON + m * 60, {NODES[0]: noise, NODES[1]: noise})
    series.compact(NOON + 2 * 86400)
    assert used_bytes(series._db) <= most
    assert (tmp_path / "m.sqlite").stat().st_size <= 1.5 * most
    found = series.read(NODES[0], ["m1"], NOON, NOON + 2400 * 60, 60)["m1"].starts
    assert found[0] > NOON
    assert found[-1] == NOON + 2396 * 60
    assert series.trouble is None
    series.close()


def test_a_subject_without_points_is_forgotten(tmp_path: Path) -> None:
    series = SeriesFile(tmp_path / "m.sqlite", Retention(1, 1, 1), clock=lambda: NOON)
    series.write(NOON, {NODES[0]: {"CPU": Point.of(1.0)}})
    for hours in range(0, 24 * 30, 6):
        series.compact(NOON + hours * 3600)
    assert series.subjects() == []
    assert series.names(NODES[0]) == frozenset()
    series.write(NOON, {NODES[0]: {"CPU": Point.of(2.0)}})
    assert series.subjects() == [NODES[0]]
    assert series.read(NODES[0], ["CPU"], NOON, NOON + 60, 60)["CPU"].total == [2.0]
    series.close()


def test_minutes_are_folded_while_writing(tmp_path: Path) -> None:
    series = _filled(tmp_path / "m.sqlite", 100)
    assert series._db.execute("SELECT count(*) FROM minute").fetchone()[0] < 60
    assert series.read(NODES[0], ["CPU"], NOON, NOON + 6000, 60)["CPU"].total == [float(m % 7) for m in range(100)]
    series.close()


def test_names_are_those_seen_since_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    series = SeriesFile(path, clock=lambda: NOON + 86400)
    series.write(NOON, {NODES[0]: {"Old": Point.of(1.0), "CPU": Point.of(1.0)}})
    series.write(NOON + 7200, {NODES[0]: {"CPU": Point.of(1.0)}})
    for _ in range(2):
        assert series.names(NODES[0]) == {"Old", "CPU"}
        assert series.names(NODES[0], NOON + 3599) == {"Old", "CPU"}
        assert series.names(NODES[0], NOON + 3600) == {"CPU"}
        assert series.names(NODES[0], NOON + 3 * 3600) == frozenset()
        series.close()
        series = SeriesFile(path, clock=lambda: NOON + 86400)
    assert series.subjects("r") == [NODES[0]]
    assert series.subjects("elsewhere") == []
    series.close()


def test_a_minute_older_than_minutes_are_kept_is_refused(tmp_path: Path) -> None:
    series = SeriesFile(tmp_path / "m.sqlite", clock=lambda: NOON)
    series.write(NOON - 20 * 86400, {NODES[0]: {"CPU": Point.of(1.0)}})
    assert "kept for 15 days" in (series.trouble or "")
    series.write(NOON, {NODES[0]: {"CPU": Point.of(1.0)}})
    assert series.trouble is None
    series.close()


def test_readers_see_each_minute_once_while_it_is_folded_and_rolled(tmp_path: Path) -> None:
    series = _filled(tmp_path / "m.sqlite", 60)
    done, counts = threading.Event(), set()

    def look() -> None:
        while not done.is_set():
            for period in (60, 300, 3600):
                counts.add(sum(series.read(NODES[0], ["Hits"], NOON, NOON + 3600, period)["Hits"].count))

    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        for m in range(60):
            series.write(NOON + m * 60, {NODES[0]: {"Hits": Point(2.0, m + 0.1, 0.0, m)}})
            if m % 10 == 0:
                series.compact(NOON + 86400)
        done.set()
        for one in looks:
            one.result(timeout=30)
    assert counts == {120.0}
    assert series.trouble is None
    series.close()
