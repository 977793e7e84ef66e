"""Every byte of every object of a small backup cut off, flipped or lost: named, never presented as good, the rest read.

The expectation is worked out from the intact bytes by code that knows only the frame header of the format page.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import count

import msgspec
import pytest
from small_backup import CHANGES, KEY, LOG, OTHER, TRUTH, cut_up, small

from cachekeep.backup.catalog import CatalogError, Repository, Status
from cachekeep.backup.catalog_chain import Finding, verify_chain
from cachekeep.backup.catalog_objects import End, Entry, object_bytes, parse_object
from cachekeep.backup.reader import GenerationReader, Joiner
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import Record
from cachekeep.codec.seal import KeyFile
from cachekeep.codec.segment import FrameWriter, SegmentEncoder, SegmentError, SegmentHeader

SECRETS = pytest.mark.parametrize("secret", [None, KEY], ids=["open", "sealed"])
FINISHED = pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])


class Backup:
    """An intact one, and what is left of it when one object has other bytes."""

    def __init__(self, secret: KeyFile | None, *, finished: bool) -> None:
        self.secret = secret
        self.blobs, self.name = small(secret, finished=finished)
        self.finished = finished
        self.repository = Repository.open(self.blobs, secret)
        self.turn = count()
        per_segment = [TRUTH[:3], OTHER, cut_up(CHANGES)]
        self.segments = [name for name in sorted(self.blobs.objects) if name.endswith(".seg")]
        self.frames = {name: self._frames(name, rs) for name, rs in zip(self.segments, per_segment, strict=True)}

    def _frames(self, segment: str, records: list[Record]) -> list[tuple[int, int, list[Record]]]:
        """(first byte, byte after the last, records) of each frame of a segment."""
        data, at, taken, frames = self.blobs.objects[segment], 32, 0, []
        while at < len(data):
            stored, _, held, _ = struct.unpack_from("<IIII", data, at + 4)
            end = at + 36 + stored
            frames.append((at, end, records[taken : taken + held]))
            at, taken = end, taken + held
        assert taken == len(records)
        return frames

    def whole(self, target: str, is_whole: Callable[[int, int], bool]) -> list[Record]:
        """The truth without the frames of target that are not whole."""
        left: list[Record] = []
        for name, frames in self.frames.items():
            left += (r for first, end, rs in frames if name != target or is_whole(first, end) for r in rs)
        return Joiner().feed(left)

    def damaged(self, target: str, data: bytes | None) -> Repository:
        blobs = MemoryBlobs()
        blobs.objects = {name: have for name, have in self.blobs.objects.items() if name != target}
        if data is not None:
            blobs.objects[target] = data
        return Repository(blobs, self.repository.sealing, self.repository.sealer)


def read(repository: Repository, name: str) -> tuple[list[Record], list[dict[str, object]], list[Finding], Status]:
    damages: list[Finding] = []
    reader = GenerationReader.open(repository, name, unfinished=True, on_damage=damages.append)
    return list(reader.records()), list(reader.log_lines()), damages, reader.chain.generation.status


def read_strictly(repository: Repository, name: str) -> None:
    reader = GenerationReader.open(repository, name, unfinished=True)
    list(reader.records())
    list(reader.log_lines())


def told_about(target: str, findings: list[Finding]) -> bool:
    """Some finding names the object, by its name or by its number."""
    return any(target in str(f) or (target.endswith(".seg") and f.segment == short(target)) for f in findings)


def short(target: str) -> str:
    return target.partition("/")[2].removesuffix(".seg")


def check(backup: Backup, target: str, data: bytes | None, is_whole: Callable[[int, int], bool]) -> None:
    repository = backup.damaged(target, data)
    if target.endswith(".seg") or next(backup.turn) % 5 == 0:  # of the rest the reader tells the same findings
        findings = verify_chain(repository, backup.name)
        assert told_about(target, findings), (findings, target)
    records, log, damages, status = read(repository, backup.name)
    changed_size = data is None or len(data) != len(backup.blobs.objects[target])
    if target.endswith(("head.json", "end.json")) or (target.endswith(".seg") and changed_size and backup.finished):
        assert status is Status.DAMAGED or (
            data is None and target.endswith("end.json") and status is Status.UNFINISHED
        )
    assert records == backup.whole(target, is_whole)
    assert log == ([] if "log-" in target else LOG)
    assert told_about(target, damages)


def targets(backup: Backup) -> Iterator[tuple[str, bytes]]:
    """Objects whose damage costs no other object its place. (An entry's, in an unfinished one: tested on its own.)"""
    for name, data in backup.blobs.objects.items():
        entry = name[-13:-5].isdigit() and name.endswith(".json")
        same_when_sealed = backup.secret is not None and name.endswith(".json")
        if name != "repository.json" and (backup.finished or not entry) and not same_when_sealed:
            yield name, data


@SECRETS
@FINISHED
def test_a_cut_at_every_byte_is_named_and_the_rest_is_read(secret: KeyFile | None, finished: bool) -> None:
    backup = Backup(secret, finished=finished)
    for target, data in targets(backup):
        for size in range(len(data)):
            check(backup, target, data[:size], lambda first, end, size=size: end <= size)  # type: ignore[misc]


@SECRETS
@FINISHED
def test_every_flipped_byte_is_named_and_the_rest_is_read(secret: KeyFile | None, finished: bool) -> None:
    backup = Backup(secret, finished=finished)
    for target, data in targets(backup):
        for at in range(len(data)):
            flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
            check(backup, target, flipped, lambda first, end, at=at: not first <= at < end)  # type: ignore[misc]


@SECRETS
@FINISHED
@pytest.mark.parametrize("more", [b"x", b"CKFR", b"\0" * 100, b"CKFR" * 40], ids=["x", "magic", "zeros", "magics"])
def test_what_follows_the_end_of_an_object_is_named(secret: KeyFile | None, finished: bool, more: bytes) -> None:
    backup = Backup(secret, finished=finished)
    for target, data in targets(backup):
        check(backup, target, data + more, lambda first, end: True)


@SECRETS
def test_every_lost_object_is_named_and_the_rest_is_read(secret: KeyFile | None) -> None:
    backup = Backup(secret, finished=True)
    for target, _ in targets(backup):
        if not target.endswith("end.json"):
            check(backup, target, None, lambda first, end: False)


def test_entries_of_an_unfinished_one_that_are_cut_or_flipped_cost_their_segment() -> None:
    backup = Backup(None, finished=False)
    for number in (1, 2, 3):
        target, segment = f"{backup.name}/{number:08d}.json", backup.segments[number - 1]
        data = backup.blobs.objects[target]
        broken = [data[:size] for size in range(len(data))]
        broken += [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
        for bytes_ in broken:
            repository = backup.damaged(target, bytes_)
            assert any(f.entry == number for f in verify_chain(repository, backup.name))
            records, _, damages, _ = read(repository, backup.name)
            assert records == backup.whole(segment, lambda first, end: False)
            assert any(f.entry == number for f in damages)


@SECRETS
def test_a_damaged_repository_object_is_told_and_rescued_from_a_head(secret: KeyFile | None) -> None:
    backup = Backup(secret, finished=True)
    data = backup.blobs.objects["repository.json"]
    broken: list[bytes | None] = [data[:size] for size in range(len(data))]
    broken += [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    for bytes_ in [*broken, None]:
        blobs = backup.damaged("repository.json", bytes_).blobs
        with pytest.raises(CatalogError, match=r"repository\.json"):
            Repository.open(blobs, secret)
        with pytest.raises(CatalogError, match=r"repository\.json"):
            Repository.open_or_create(blobs, secret)
    rescued = Repository.open(blobs, secret, rescue=True)
    assert verify_chain(rescued, backup.name) == []
    assert read(rescued, backup.name)[0] == TRUTH


@SECRETS
def test_a_strict_reader_stops_at_the_first_damage(secret: KeyFile | None) -> None:
    backup = Backup(secret, finished=True)
    for target, data in targets(backup):
        flipped = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        repository = backup.damaged(target, flipped)
        with pytest.raises((CatalogError, SegmentError), match=rf"{target}|segment {short(target)}"):
            read_strictly(repository, backup.name)


def test_objects_that_changed_places_are_named() -> None:
    backup = Backup(None, finished=True)
    others = small()[0].objects
    for kind in (".seg", "json"):
        mine = [name for name in backup.blobs.objects if name[-4:] == kind and "/" in name]
        foreign = [data for name, data in others.items() if name[-4:] == kind and "/" in name]
        for target in mine:
            for data in [*(backup.blobs.objects[source] for source in mine if source != target), *foreign]:
                assert verify_chain(backup.damaged(target, data), backup.name), target


def named(repository: Repository, backup: Backup, entry: int, words: str) -> bool:
    return any(f.entry == entry and words in str(f) for f in verify_chain(repository, backup.name))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_entry_that_was_written_anew_breaks_the_chain(number: int) -> None:
    """With a right digest of its own: what notices is the one after it, or the end."""
    backup = Backup(None, finished=True)
    target = f"{backup.name}/{number:08d}.json"
    entry = parse_object(backup.blobs.objects[target], Entry)
    repository = backup.damaged(target, object_bytes(msgspec.structs.replace(entry, cursor="99")))
    if number < 3:
        assert named(repository, backup, number + 1, "does not continue the one before it")
    else:
        assert named(repository, backup, 3, "end.json does not continue the last entry")


@pytest.mark.parametrize("finished", [True, False])
def test_a_segment_that_was_written_anew_is_not_the_one_of_its_entry(finished: bool) -> None:
    backup = Backup(None, finished=finished)
    target = backup.segments[1]
    swapped = msgspec.structs.replace(OTHER[0], captured_ms=OTHER[0].captured_ms + 1)
    for records, words in (([swapped], "another digest"), ([*OTHER, *OTHER], "2 records are there"), ([], "0 frames")):
        writer = FrameWriter()
        raw = [*writer.add(records), *filter(None, [writer.flush()])]
        data = b"".join(SegmentEncoder(SegmentHeader(backup.name, short(target))).encode(raw))
        repository = backup.damaged(target, data)
        assert named(repository, backup, 2, words)
        with pytest.raises((CatalogError, SegmentError), match=short(target)):
            read_strictly(repository, backup.name)


def test_an_end_that_was_written_anew_is_held_against_the_entries() -> None:
    backup = Backup(None, finished=True)
    target = f"{backup.name}/end.json"
    end = parse_object(backup.blobs.objects[target], End)
    (first, size, kind), second, third = end.segments
    for segments in (
        (second, (first, size, kind), third),
        ((first, size, "changes"), second, third),
        ((first, size + 1, kind), second, third),
        (second, third),
    ):
        changed = object_bytes(msgspec.structs.replace(end, segments=segments))
        assert verify_chain(backup.damaged(target, changed), backup.name)
    for changes in (
        {"generation": "20261122T210000.123Z-00000000"},
        {"last": "0" * 64},
        {"logs": {"log-00000002.jsonl": "0" * 64}},
    ):
        assert verify_chain(backup.damaged(target, object_bytes(msgspec.structs.replace(end, **changes))), backup.name)
