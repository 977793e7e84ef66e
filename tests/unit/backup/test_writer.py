"""Segments from several threads, a store that fails or is slow, and what is left of a segment that nobody closes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest
from small_backup import BASE, LANE, NOW_MS, head

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.catalog_chain import verify_chain
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import Kind, Record
from cachekeep.domain.blobs import BlobError, BlobFault


def many(lane: str, count: int, size: int = 500) -> list[Record]:
    return [Record(Kind.UPSERT, 0, -1, NOW_MS, f"{lane}/{n}".encode(), bytes([n % 251]) * size) for n in range(count)]


class FullBlobs(MemoryBlobs):
    """Takes some parts of a segment, then is full."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        if name.endswith(".seg") and not isinstance(data, bytes):
            data = self._as_far_as_it_fits(name, data)
        super().put(name, data, new=new)

    def _as_far_as_it_fits(self, name: str, parts: Iterable[bytes]) -> Iterator[bytes]:
        for number, part in enumerate(parts):
            if number >= self.parts:
                raise BlobError(BlobFault.FULL, f"cannot write {name}", "free space there")
            yield part


def begun(blobs: MemoryBlobs) -> tuple[Repository, GenerationWriter]:
    repository = Repository.create(blobs)
    return repository, GenerationWriter.begin(repository, head())


def test_lanes_write_side_by_side_into_one_chain() -> None:
    repository, generation = begun(MemoryBlobs())
    lanes = [f"127.64.0.{n}:6379" for n in range(1, 5)]

    def work(lane: str) -> None:
        for part in range(5):
            with SegmentWriter(generation, "base", lane, 0, frame_bytes=2000) as segment:
                segment.add(many(f"{lane}/{part}", 30))
                segment.close(str(part + 1))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    generation.finish()
    assert verify_chain(repository, generation.name) == []
    assert [entry.number for entry in generation.entries] == list(range(1, 21))
    assert {entry.lane for entry in generation.entries} == set(lanes)
    assert {point.cursor for point in generation.resume_points().values()} == {"5"}
    keys = {record.key for record in GenerationReader.open(repository, generation.name).records()}
    assert len(keys) == 4 * 5 * 30


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_full_store_ends_the_segment_and_nothing_waits(parts: int) -> None:
    blobs = FullBlobs(parts)
    repository, generation = begun(blobs)

    def fill() -> None:
        with SegmentWriter(generation, "base", LANE, 0, frame_bytes=1000) as segment:
            segment.add(many("x", 200))
            segment.close("0")

    with pytest.raises(BlobError, match="free space"):
        fill()
    assert not [name for name in blobs.objects if name.endswith(".seg")]
    assert verify_chain(repository, generation.name) == []
    blobs.parts = 10_000
    fill()
    generation.finish()
    assert verify_chain(repository, generation.name) == []
    assert len(list(GenerationReader.open(repository, generation.name).records())) == 200


def test_a_full_store_is_told_to_a_writer_that_had_stopped_adding() -> None:
    _, generation = begun(FullBlobs(0))
    segment = SegmentWriter(generation, "base", LANE, 0)
    segment.add(BASE)
    with pytest.raises(BlobError, match="free space"):
        segment.close("0")
    with pytest.raises(ValueError, match="closed"):
        segment.close("0")
    with pytest.raises(ValueError, match="closed"):
        segment.add(BASE)


def test_a_segment_that_nobody_closes_leaves_nothing() -> None:
    blobs = MemoryBlobs()
    repository, generation = begun(blobs)

    def break_off() -> None:
        with SegmentWriter(generation, "base", LANE, 0, frame_bytes=1000) as segment:
            segment.add(many("x", 50))
            raise ConnectionError("the source is gone")

    with pytest.raises(ConnectionError):
        break_off()
    SegmentWriter(generation, "base", LANE, 0).abandon()
    assert sorted(blobs.objects) == [f"{generation.name}/head.json", "repository.json"]
    with SegmentWriter(generation, "base", LANE, 0) as segment:
        segment.add(BASE)
        assert segment.close("0").number == 1
    assert verify_chain(repository, generation.name) == []


def test_capture_waits_for_a_slow_store_instead_of_filling_memory() -> None:
    class SlowBlobs(MemoryBlobs):
        go_on = threading.Event()

        def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
            if name.endswith(".seg"):
                self.go_on.wait()
            super().put(name, data, new=new)

    blobs = SlowBlobs()
    _, generation = begun(blobs)
    added: list[int] = []
    segment = SegmentWriter(generation, "base", LANE, 0, frame_bytes=100)

    def capture() -> None:
        for number, record in enumerate(many("x", 20, 200)):
            segment.add([record])
            added.append(number)

    thread = threading.Thread(target=capture)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert len(added) <= 5
    blobs.go_on.set()
    thread.join(5)
    assert segment.close("0").records == 20


def test_a_record_that_cannot_be_written_is_told_and_not_swallowed() -> None:
    _, generation = begun(MemoryBlobs())
    with SegmentWriter(generation, "base", LANE, 0) as segment:
        segment.add([Record(Kind.UPSERT, 1 << 40, -1, NOW_MS, b"k", b"v")])
        with pytest.raises(ValueError, match="cannot be written"):
            segment.close("0")
    assert generation.entries == []


def test_a_finished_generation_takes_no_more() -> None:
    _, generation = begun(MemoryBlobs())
    late = SegmentWriter(generation, "base", LANE, 0)
    generation.finish()
    for call in (lambda: late.close("0"), generation.finish, lambda: generation.log([]), generation.next_segment):
        with pytest.raises(CatalogError, match="it is finished"):
            call()
