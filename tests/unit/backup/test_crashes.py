"""The writer dies at every operation on its store, before and after it took effect: what is there is readable,
is not presented as more than it is, and can be resumed to the very same whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from small_backup import BASE, CHANGES, KEY, LANE, LOG, NOW_MS, OTHER, TRUTH, cut_up, head

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.catalog_chain import read_chain, verify_chain
from cachekeep.backup.catalog_objects import KindName
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import Record
from cachekeep.codec.seal import KeyFile
from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo

SEGMENTS: list[tuple[KindName, int | None, list[Record], str | None]] = [
    ("base", 0, BASE, "0"),
    ("base", 5, OTHER, "0"),
    ("changes", None, cut_up(CHANGES), None),
]


class Died(BaseException):
    """The process is gone: nothing handles this."""


class DyingBlobs(MemoryBlobs):
    """Dies at its n-th write: before it, in the middle of its parts, or right after it took effect."""

    def __init__(self, dies_at: int, when: str) -> None:
        super().__init__()
        self.left, self.when = dies_at, when

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        self.left -= 1
        if self.left == 0:
            if self.when == "after":
                super().put(name, data, new=new)
            elif self.when == "amid":
                list(itertools.islice([data] if isinstance(data, bytes) else data, 2))
            raise Died
        if self.left < 0:
            raise Died
        super().put(name, data, new=new)

    def revived(self) -> MemoryBlobs:
        blobs = MemoryBlobs()
        blobs.objects = dict(self.objects)
        return blobs


def go_on(generation: GenerationWriter) -> None:
    """What a run does: whatever of the plan is not there yet."""
    if not generation.entries and generation._next_log == 1:
        generation.log(LOG)
    for kind, db, records, cursor in SEGMENTS[len(generation.entries) :]:
        with SegmentWriter(generation, kind, LANE, db, frame_bytes=40) as segment:
            segment.add(records)
            segment.close(cursor)
    generation.finish(ended_ms=NOW_MS + 100)


def run(blobs: MemoryBlobs, secret: KeyFile | None) -> None:
    repository = Repository.open_or_create(blobs, secret)
    unfinished = [g.name for g in repository.generations() if g.status is Status.UNFINISHED]
    if unfinished:
        go_on(GenerationWriter.resume(repository, unfinished[-1]))
    else:
        go_on(GenerationWriter.begin(repository, head()))


def writes() -> int:
    blobs = DyingBlobs(10_000, "before")
    run(blobs, None)
    return 10_000 - blobs.left


@pytest.mark.parametrize("secret", [None, KEY], ids=["open", "sealed"])
@pytest.mark.parametrize("when", ["before", "amid", "after"])
def test_dying_at_any_write_loses_nothing_that_was_committed(when: str, secret: KeyFile | None) -> None:
    count = writes()
    assert count == 10  # repository, head, log, three segments with entries, end
    for dies_at in range(1, count + 1):
        dying = DyingBlobs(dies_at, when)
        with pytest.raises(Died):
            run(dying, secret)
        blobs = dying.revived()
        look_at(blobs, secret, finished=(dies_at, when) == (count, "after"))
        run(blobs, secret)
        names = [g.name for g in Repository.open(blobs, secret).generations() if g.status is Status.COMPLETE]
        assert names
        for name in names:
            whole(blobs, name, secret)


def look_at(blobs: MemoryBlobs, secret: KeyFile | None, *, finished: bool) -> None:
    """What a crash left: whole as far as it goes, and said to be unfinished."""
    if "repository.json" not in blobs.objects:
        assert blobs.objects == {}
        return
    repository = Repository.open(blobs, secret)
    for generation in repository.generations():
        assert generation.status is (Status.COMPLETE if finished else Status.UNFINISHED)
        assert verify_chain(repository, generation.name) == []
        entries = len(read_chain(repository, generation.name).entries)
        records = list(GenerationReader.open(repository, generation.name, unfinished=True).records())
        assert records == TRUTH[: (0, 3, 4, 7)[entries]]


def whole(blobs: MemoryBlobs, name: str, secret: KeyFile | None) -> None:
    repository = Repository.open(blobs, secret)
    assert verify_chain(repository, name) == []
    reader = GenerationReader.open(repository, name)
    assert list(reader.records()) == TRUTH
    assert list(reader.log_lines()) == LOG


class LossyBlobs(MemoryBlobs):
    """Every n-th put takes effect, and its answer is lost; or it fails and takes no effect."""

    def __init__(self, fails_at: int, *, takes_effect: bool) -> None:
        super().__init__()
        self.left, self.takes_effect = fails_at, takes_effect

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        self.left -= 1
        if self.left == 0:
            if self.takes_effect:
                super().put(name, data, new=new)
            raise BlobError(BlobFault.UNREACHABLE, f"cannot write {name}", "run it again")
        super().put(name, data, new=new)


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_put_that_fails_ends_the_run_and_the_next_one_completes_it(takes_effect: bool) -> None:
    for fails_at in range(1, writes() + 1):
        blobs = LossyBlobs(fails_at, takes_effect=takes_effect)
        with pytest.raises(BlobError, match="cannot write"):
            run(blobs, None)
        run(blobs, None)
        complete = [g for g in Repository.open(blobs).generations() if g.status is Status.COMPLETE]
        assert complete
        whole(blobs, complete[0].name, None)


class RepeatingBlobs(MemoryBlobs):
    """Loses the first answer of every exclusive put and tries again by itself, as an HTTP client does."""

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        super().put(name, data, new=new)
        if new and name != "repository.json":
            super().put(name, data, new=new)


def test_a_put_that_the_store_repeats_finds_its_own_object() -> None:
    blobs = RepeatingBlobs()
    run(blobs, None)
    (generation,) = Repository.open(blobs).generations()
    assert generation.status is Status.COMPLETE
    whole(blobs, generation.name, None)


def test_removing_dies_at_every_delete_and_leaves_an_unfinished_one() -> None:
    class Stopping(MemoryBlobs):
        left = 0

        def delete(self, name: str) -> None:
            self.left -= 1
            if self.left < 0:
                raise Died
            super().delete(name)

    blobs = Stopping()
    run(blobs, None)
    (generation,) = Repository.open(blobs).generations()
    for left in itertools.count(0):
        blobs.left = left
        repository = Repository.open(blobs)
        try:
            repository.remove(generation.name)
        except Died:
            for found in repository.generations():
                assert (found.status is Status.UNFINISHED) == (left > 0)
                assert verify_chain(repository, found.name) == []
        else:
            break
    assert blobs.list() == [BlobInfo("repository.json", len(blobs.get("repository.json")))]


@pytest.fixture
def two_writers() -> tuple[GenerationWriter, GenerationWriter, Repository]:
    repository = Repository.create(MemoryBlobs())
    first = GenerationWriter.begin(repository, head())
    return first, GenerationWriter.resume(repository, first.name), repository


def test_two_runs_that_write_one_generation_do_not_harm_it(
    two_writers: tuple[GenerationWriter, GenerationWriter, Repository],
) -> None:
    first, second, repository = two_writers
    with SegmentWriter(first, "base", LANE, 0) as segment:
        segment.add(BASE)
        segment.close("0")
    with SegmentWriter(second, "base", LANE, 5) as segment:
        segment.add(OTHER)
        with pytest.raises(Exception, match="another"):
            segment.close("0")
    assert verify_chain(repository, first.name) == []
    assert list(GenerationReader.open(repository, first.name, unfinished=True).records()) == BASE
