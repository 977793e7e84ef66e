"""Blocks that were read lately, merging to longer periods, and connections that read."""

from __future__ import annotations

import random
import sqlite3
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cachekeep.domain.metrics import Point, Subject
from cachekeep.store.series import SeriesFile
from cachekeep.store.series_block import pack_block
from cachekeep.store.series_read import Blocks
from cachekeep.store.series_readers import Readers
from cachekeep.store.series_run import Calendar, Run, rolled

NOON = 1_700_000_000 - 1_700_000_000 % 86400 + 43200
NODE = Subject("r", "a", "0001")


def run_of(values: list[float], starts: list[int] | None = None) -> Run:
    numbers = array("d", values)
    at = starts or [NOON + 60 * i for i in range(len(values))]
    return Run(at, array("d", [1.0]) * len(values), numbers, numbers, numbers)


def body_of(seed: int, metrics: int = 10) -> bytes:
    noise = random.Random(seed)
    return pack_block({i: run_of([noise.random() for _ in range(60)]) for i in range(metrics)}, NOON, 60)


def test_a_block_is_decoded_once_and_not_used_after_it_was_rewritten() -> None:
    blocks, key = Blocks(), (60, NOON)
    first = blocks.block(1, key, body_of(1))
    assert blocks.block(1, key, body_of(1)) is first
    second = blocks.block(1, key, body_of(2))
    assert second is not first
    run = second.run(3)
    noise = random.Random(2)
    assert run is not None
    assert run.total.tolist() == [noise.random() for _ in range(240)][180:]
    assert blocks.block(2, key, body_of(2)) is not second


def test_a_late_minute_is_read_though_its_block_was_kept(tmp_path: Path) -> None:
    series = SeriesFile(tmp_path / "m.sqlite", clock=lambda: NOON + 7200)
    asked = (NODE, ["CPU"], NOON, NOON + 7200, 60)
    for last in range(3):
        series.write(NOON + 60 * last, {NODE: {"CPU": Point.of(float(last))}})
        series.compact(NOON + 86400)
        for _ in range(2):
            assert series.read(*asked)["CPU"].total == [float(i) for i in range(last + 1)]
    series.close()


def test_blocks_and_the_columns_decoded_of_them_keep_to_the_bound() -> None:
    body = body_of(1, 40)
    most = 3 * len(body)
    blocks = Blocks(most)
    for subject in range(20):
        block = blocks.block(subject, (60, NOON), body)
        for number in block.ids:
            block.run(number)
        blocks.weigh(subject, [(60, NOON)])
        kept = sum(block.kept_bytes for block, _ in blocks._blocks.values())
        assert kept == blocks._kept_bytes <= most
    block = blocks.block(1, (60, NOON), body)
    blocks.weigh(1, [(60, NOON)])
    assert blocks.block(1, (60, NOON), body) is block, "of the last that fit"


def test_threads_share_blocks_and_read_what_is_there() -> None:
    bodies = {subject: [body_of(10 * subject + version) for version in range(2)] for subject in range(3)}
    blocks = Blocks(4 * len(bodies[0][0]))

    def look(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(150):
            subject, version = chosen.randrange(3), chosen.randrange(2)
            run = blocks.block(subject, (60, NOON), bodies[subject][version]).run(0)
            blocks.weigh(subject, [(60, NOON)])
            assert run is not None
            assert run.total[0] == random.Random(10 * subject + version).random()

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(look, seed) for seed in range(4)]:
            one.result(timeout=30)
    assert blocks._kept_bytes == sum(weight for _, weight in blocks._blocks.values())


@pytest.mark.parametrize("seed", range(8))
def test_periods_of_one_length_merge_as_any_others_do(seed: int) -> None:
    noise = random.Random(seed)
    starts = [
        NOON + 60 * i for i in range(noise.randrange(40), noise.randrange(41, 90)) if seed % 2 or noise.random() > 0.1
    ]
    values = [noise.choice([0.5, noise.random()]) for _ in starts]
    found = rolled(run_of(values, starts), 300, Calendar())
    periods: dict[int, list[float]] = {}
    for start, value in zip(starts, values, strict=True):
        periods.setdefault(start - start % 300, []).append(value)
    assert list(found.starts) == list(periods)
    assert found.count.tolist() == [float(len(p)) for p in periods.values()]
    assert found.total.tolist() == [sum(p) for p in periods.values()]
    assert found.least.tolist() == [min(p) for p in periods.values()]
    assert found.most.tolist() == [max(p) for p in periods.values()]


def test_nobody_reads_while_the_file_is_exchanged(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    sqlite3.connect(path).close()
    readers = Readers(path)
    with readers.one() as kept:
        kept.execute("SELECT 1")
    with readers.shut_out():
        with pytest.raises(sqlite3.OperationalError, match="exchanged"), readers.one():
            pass
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            kept.execute("SELECT 1")
    with readers.one() as fresh:
        assert fresh is not kept
    readers.close()
