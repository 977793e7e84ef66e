"""The series store when its disk is full, its file damaged, its process killed: it says so, the rest of it stays."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cachekeep.domain.metrics import Point, Subject
from cachekeep.domain.ports import WorldError
from cachekeep.store import series as series_module
from cachekeep.store.series import SeriesFile

NOON = 1_700_000_000 - 1_700_000_000 % 86400 + 43200
NODE, OTHER = Subject("r", "a", "0001"), Subject("r", "b")


def filled(path: Path, minutes: int = 120) -> SeriesFile:
    """Two nodes with noise."""
    clock = [NOON]
    series = SeriesFile(path, clock=lambda: clock[0])
    noise = random.Random(7)
    for m in range(minutes):
        clock[0] = NOON + m * 60
        rows = {node: {f"m{i}": Point.of(noise.random()) for i in range(12)} for node in (NODE, OTHER)}
        series.write(NOON + m * 60, rows)
    return series


def noise(count: int) -> dict[str, Point]:
    return {f"m{i}": Point.of(float.fromhex(f"0x1.{os.urandom(6).hex()}p3")) for i in range(count)}


def points_of(series: SeriesFile, subject: Subject, name: str, minutes: int, period: int = 60) -> int:
    return len(series.read(subject, [name], NOON, NOON + minutes * 60, period)[name])


def test_a_full_disk_keeps_minutes_in_memory_until_there_is_room(tmp_path: Path) -> None:
    series = filled(tmp_path / "m.sqlite", 5)
    pages = series._db.execute("PRAGMA page_count").fetchone()[0]
    series._db.execute(f"PRAGMA max_page_count={pages}")
    many = noise(2000)
    for m in range(5):
        series.write(NOON + m * 60, {OTHER: many})
    assert "wait in memory" in (series.trouble or "")
    assert points_of(series, OTHER, "m700", 5) == 5
    series._db.execute("PRAGMA max_page_count=100000")
    series.write(NOON, {OTHER: many})
    assert series.trouble is None
    series.close()
    again = SeriesFile(tmp_path / "m.sqlite", clock=lambda: NOON)
    assert points_of(again, OTHER, "m700", 5) == 5
    again.close()


def test_what_waits_in_memory_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_module, "WAITING_BYTES", 50_000)
    series = filled(tmp_path / "m.sqlite", 2)
    series._db.execute("PRAGMA max_page_count=1")
    many = noise(1000)
    for m in range(20):
        series.write(NOON + m * 60, {NODE: many})
    assert 0 < sum(len(body) for rows in series._pending.values() for body in rows.values()) <= 50_000
    assert "older ones were dropped" in (series.trouble or "")
    assert max(series._pending) == NOON + 19 * 60
    series.close()


def test_a_file_that_must_not_grow_is_told_and_read(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from tests.unit.store.test_series_trouble import NODE, NOON, filled, noise, points_of
series = filled(Path(sys.argv[1]), 50)
size = Path(sys.argv[1] + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20000, resource.RLIM_INFINITY))
for m in range(50, 60):
    series.write(NOON + m * 60, {NODE: noise(1500)})
assert "wait in memory" in series.trouble, series.trouble
assert points_of(series, NODE, "m3", 60) == 60
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
series.write(NOON + 59 * 60, {NODE: noise(10)})
assert series.trouble is None, series.trouble
series.close()
"""
    path = tmp_path / "m.sqlite"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    series = SeriesFile(path, clock=lambda: NOON)
    assert points_of(series, NODE, "m3", 60) == 60
    series.close()


@pytest.mark.parametrize("damage", ["not sqlite", "truncated"])
def test_a_damaged_file_is_moved_aside_and_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.sqlite"
    filled(path, 60).close()
    whole = path.read_bytes()
    path.write_bytes(b"x" * 9000 if damage == "not sqlite" else whole[: len(whole) // 2])
    series = SeriesFile(path, clock=lambda: NOON)
    series.write(NOON, {NODE: {"m1": Point.of(1.0)}})
    assert "damaged" in (series.trouble or "")
    assert list(tmp_path.glob("m.sqlite.damaged-*"))
    assert points_of(series, NODE, "m1", 1) == 1
    series.close()


def test_overwritten_bytes_of_minutes_are_told_and_shown_coarser(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    series = filled(path)
    series.compact(NOON + 86400)
    series._db.execute("VACUUM")
    body = series._db.execute("SELECT body FROM block WHERE resolution=60 AND subject=1").fetchone()[0]
    series.close()
    data, place = path.read_bytes(), path.read_bytes().index(body[2000:2200])
    path.write_bytes(data[:place] + bytes(200) + data[place + 200 :])
    series = SeriesFile(path, clock=lambda: NOON + 120 * 60)
    found = {i: points_of(series, NODE, f"m{i}", 120) for i in range(12)}
    assert set(found.values()) == {120, 24}
    assert all(points_of(series, OTHER, f"m{i}", 120) == 120 for i in range(12))
    assert all(points_of(series, NODE, f"m{i}", 120, 300) == 24 for i in range(12))
    assert "metrics of r/a/0001 from 2023-11-14T12:00Z" in (series.trouble or "")
    series.close()


def readable_points_of(series: SeriesFile, subject: Subject, name: str) -> int:
    try:
        return points_of(series, subject, name, 120)
    except WorldError:
        return 0


def test_whatever_page_is_overwritten_the_next_minute_is_written_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    series = filled(path)
    series.compact(NOON + 86400)
    series.close()
    whole = path.read_bytes()
    kept = []
    for page in range(1, len(whole) // 8192):
        damaged = tmp_path / f"{page}.sqlite"
        damaged.write_bytes(whole[: page * 8192] + random.Random(page).randbytes(8192) + whole[(page + 1) * 8192 :])
        series = SeriesFile(damaged, clock=lambda: NOON + 120 * 60)
        for _ in range(2):
            found = [readable_points_of(series, node, f"m{i}") for node in (NODE, OTHER) for i in range(12)]
            series.write(NOON + 120 * 60, {NODE: {"m1": Point.of(1.0)}})
        assert not series._pending
        assert (tmp_path / f"{page}.sqlite-wal").exists(), "closing the old file costs the new one nothing"
        assert "deleted" not in (series.trouble or "")
        kept.append(sum(found))
        if min(found) < 120:
            assert series.trouble is not None
        assert points_of(series, NODE, "m1", 121) > 0
        series.close()
    assert sorted(kept)[len(kept) // 4] >= 24 * 24


def test_a_file_of_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    filled(path, 2).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(WorldError, match="newer Cachekeep"):
        SeriesFile(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.sqlite"]


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os,sys,signal;from pathlib import Path;from tests.unit.store.test_series_trouble import filled;"
        "filled(Path(sys.argv[1]));os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.sqlite")], check=False, timeout=60)
    series = SeriesFile(tmp_path / "m.sqlite", clock=lambda: NOON)
    assert points_of(series, NODE, "m3", 120) == 120
    assert series.trouble is None
    series.close()


@pytest.mark.parametrize("gone", [("",), ("", "-wal", "-shm"), ("-wal",), ("-shm",)])
def test_a_file_that_is_deleted_while_in_use_is_written_anew_with_all_it_had(
    tmp_path: Path, gone: tuple[str, ...]
) -> None:
    path = tmp_path / "m.sqlite"
    series = filled(path, 10)
    assert points_of(series, NODE, "m3", 20) == 10  # a reader is kept
    for ending in gone:
        (tmp_path / f"m.sqlite{ending}").unlink()
    for m in range(10, 13):
        series.write(NOON + m * 60, {NODE: {"m3": Point.of(float(m))}})
        assert points_of(series, NODE, "m3", 20) == m + 1
    assert "was deleted or replaced" in (series.trouble or "")
    assert path.stat().st_mode & 0o777 == 0o600
    # As a kill would leave it.
    copy = tmp_path / "copy"
    copy.mkdir()
    for ending in ("", "-wal"):
        (copy / f"m.sqlite{ending}").write_bytes((tmp_path / f"m.sqlite{ending}").read_bytes())
    again = SeriesFile(copy / "m.sqlite", clock=lambda: NOON)
    assert (points_of(again, NODE, "m3", 20), points_of(again, OTHER, "m3", 20)) == (13, 10)
    assert again.trouble is None
    again.close()
    series.close()


def test_a_file_that_was_put_in_the_place_of_the_one_in_use_is_kept_aside(tmp_path: Path) -> None:
    path, other = tmp_path / "m.sqlite", tmp_path / "other.sqlite"
    filled(other, 3).close()
    series = filled(path, 10)
    other.replace(path)
    series.write(NOON + 10 * 60, {NODE: {"m3": Point.of(1.0)}})
    assert points_of(series, NODE, "m3", 20) == 11
    (aside,) = tmp_path.glob("m.sqlite.replaced-*")
    assert aside.name in (series.trouble or "")
    series.close()
    kept = SeriesFile(aside, clock=lambda: NOON)
    assert points_of(kept, NODE, "m3", 20) == 3
    kept.close()


def test_minutes_wait_while_a_deleted_file_cannot_be_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    series = filled(folder / "m.sqlite", 10)
    folder.rename(tmp_path / "away")
    folder.write_bytes(b"a file where the folder was")
    series.write(NOON + 10 * 60, {NODE: {"m3": Point.of(1.0)}})
    assert "cannot be written anew" in (series.trouble or "")
    folder.unlink()
    series.write(NOON + 11 * 60, {NODE: {"m3": Point.of(1.0)}})
    assert "wait in memory" not in (series.trouble or "")
    series.close()
    again = SeriesFile(folder / "m.sqlite", clock=lambda: NOON)
    assert points_of(again, NODE, "m3", 20) == 12
    again.close()


def test_a_read_that_fails_says_so_and_is_not_an_empty_answer(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    series = filled(path, 10)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(WorldError, match="cannot be read now"):
        points_of(series, NODE, "m3", 10)
    series.write(NOON + 10 * 60, {NODE: {"m3": Point.of(1.0)}})
    assert points_of(series, NODE, "m3", 20) == 11
    series.close()


def test_a_damaged_file_is_saved_from_once_the_disk_has_room(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from tests.unit.store.test_series_trouble import NODE, NOON, OTHER, damaged, noise, points_of
from cachekeep.store.series import SALVAGE_EVERY, SeriesFile
path = Path(sys.argv[1])
damaged(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, resource.RLIM_INFINITY))
series = SeriesFile(path, clock=lambda: NOON + 7200)
assert "could not be saved" in series.trouble, series.trouble
for m in range(120, 119 + SALVAGE_EVERY):
    series.write(NOON + m * 60, {OTHER: noise(2)})
series.compact(NOON + 7200)
assert points_of(series, OTHER, "m1", 240) == SALVAGE_EVERY - 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
series.write(NOON + 7200, {NODE: noise(2)})
assert "blocks and" in series.trouble and "could not be saved" not in series.trouble, series.trouble
series.close()
"""
    path = tmp_path / "m.sqlite"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    series = SeriesFile(path, clock=lambda: NOON + 86400)
    assert points_of(series, OTHER, "m1", 240) == 129, "120 that were saved and 9 that came meanwhile"
    assert points_of(series, OTHER, "m11", 240) == 120
    assert points_of(series, NODE, "m3", 120) == 120
    series.compact(NOON + 86400)
    assert points_of(series, OTHER, "m1", 240, 3600) == 3
    series.close()


def damaged(path: Path) -> None:
    """Two hours of two nodes, about a megabyte; the page of an index is overwritten."""
    series = filled(path)
    series._db.execute("INSERT INTO block VALUES (99, 3600, 0, ?, 1, randomblob(1000000))", (NOON,))
    series.compact(NOON + 86400)
    page = series._db.execute("SELECT rootpage FROM sqlite_master WHERE name='minute_of_subject'").fetchone()[0] - 1
    series.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: page * 8192] + bytes([255]) * 8192 + whole[(page + 1) * 8192 :])
