"""Whatever dies, fails or interferes while a backup is compacted, no restorable moment is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
from followed_backup import (
    GAP,
    LATER,
    OURS,
    PARTS,
    START,
    read,
    same,
    write,
)

from cachekeep.backup.catalog import CatalogError, Repository, Status
from cachekeep.backup.catalog_chain import verify_chain
from cachekeep.backup.compact import compact, followed
from cachekeep.backup.writer import GenerationWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.domain.blobs import BlobError, BlobFault


def repository() -> Repository:
    return Repository.create(MemoryBlobs())


class Died(BaseException):
    """The process is gone."""


class DyingBlobs(MemoryBlobs):
    """Dies at its n-th put or delete, and does nothing after that."""

    def __init__(self, objects: dict[str, bytes], dies_at: int, when: str) -> None:
        super().__init__()
        self.objects, self.left, self.when = dict(objects), dies_at, when

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        self._act(lambda: super(DyingBlobs, self).put(name, data, new=new))

    def delete(self, name: str) -> None:
        self._act(lambda: super(DyingBlobs, self).delete(name))

    def _act(self, act: Callable[[], None]) -> None:
        self.left -= 1
        if self.left > 0 or (self.left == 0 and self.when == "after"):
            act()
        if self.left <= 0:
            raise Died


@pytest.mark.parametrize("when", ["before", "after"])
def test_dying_at_any_write_or_delete_loses_nothing_and_the_next_run_ends_it(when: str) -> None:
    opened = repository()
    assert isinstance(opened.blobs, MemoryBlobs)
    objects = opened.blobs.objects
    name = write(opened, PARTS, [GAP])
    steps = 0
    for dies_at in itertools.count(1):
        dying = DyingBlobs(objects, dies_at, when)
        try:
            compact(Repository.open(dying), name, before_ms=OURS + 13)
        except Died:
            steps = dies_at
        else:
            break
        blobs = MemoryBlobs()
        blobs.objects = dict(dying.objects)
        survivor = Repository.open(blobs)
        look_at(survivor, name)
        for one in followed(survivor):
            if one.status is Status.COMPLETE or one.name == name:
                compact(survivor, one.name, before_ms=OURS + 13, now_ms=lambda: LATER)
        (left,) = survivor.generations()
        assert left.status is Status.COMPLETE
        same(PARTS, read(survivor, left.name), START + 13)
        assert all(info.name.startswith((left.name, "repository", name)) for info in blobs.list())
    assert steps > 30


def look_at(survivor: Repository, name: str) -> None:
    """Either the old one is as it was, or the new one is finished."""
    finished = [one for one in survivor.generations() if one.status is Status.COMPLETE]
    assert finished
    for one in finished:
        assert verify_chain(survivor, one.name) == []
        since = START if one.name == name else START + 13
        same(PARTS, read(survivor, one.name), since)


def test_a_store_that_fails_leaves_the_old_one_alone_and_nothing_else() -> None:
    class FullBlobs(MemoryBlobs):
        left = 1000

        def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
            self.left -= 1
            if self.left <= 0:
                raise BlobError(BlobFault.FULL, "the disk is full", "free space")
            super().put(name, data, new=new)

    blobs = FullBlobs()
    opened = Repository.create(blobs)
    name = write(opened, PARTS)
    for left in itertools.count(2):
        blobs.left = left
        try:
            compact(opened, name)
        except BlobError:
            failed = left
        else:
            break
        assert [one.name for one in opened.generations()] == [name]
    assert failed > 10


def test_what_reads_back_otherwise_is_taken_back() -> None:
    """A store that loses what it was given: the last entry of the changes."""

    class LosingBlobs(MemoryBlobs):
        loses = False

        def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
            super().put(name, data, new=new)
            if self.loses and name.endswith("end.json"):
                segments = [info.name for info in self.list(name.partition("/")[0]) if info.name.endswith(".seg")]
                self.objects[segments[-1]] = self.objects[segments[-1]][:-1] + b"?"

    blobs = LosingBlobs()
    opened = Repository.create(blobs)
    name = write(opened, PARTS)
    blobs.loses = True
    with pytest.raises(Exception, match="digest"):
        compact(opened, name)
    assert [one.name for one in opened.generations()] == [name]
    same(PARTS, read(opened, name), START)


def test_a_run_that_goes_on_with_it_meanwhile_keeps_it() -> None:
    class Resuming(MemoryBlobs):
        name = ""

        def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
            super().put(name, data, new=new)
            if self.name and name.endswith("end.json"):
                old, self.name = self.name, ""
                GenerationWriter.resume(Repository.open(self), old).log([{"event": "resumed"}])

    blobs = Resuming()
    opened = Repository.create(blobs)
    blobs.name = name = write(opened, PARTS, ended=False)
    with pytest.raises(CatalogError, match="was written to while"):
        compact(opened, name, now_ms=lambda: LATER)
    assert [one.name for one in opened.generations()] == [name]
