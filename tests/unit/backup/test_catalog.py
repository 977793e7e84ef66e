"""What a repository says of itself: what there is, in which state, and why something cannot be used."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from small_backup import BASE, KEY, LANE, NOW_MS, TRUTH, head, small, write_whole

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.catalog_chain import Place, ResumePoint, read_chain, verify_chain
from cachekeep.backup.catalog_objects import Gap, RepositoryObject, object_bytes
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import Kind, Record
from cachekeep.codec.seal import KeyFile, Passphrase
from cachekeep.domain.blobs import BlobError


def fault_of(call: object, *args: object, **options: object) -> tuple[CatalogFault, str]:
    assert callable(call)
    with pytest.raises(CatalogError) as caught:
        call(*args, **options)
    return caught.value.fault, str(caught.value)


def test_a_finished_generation_shows_what_it_holds() -> None:
    blobs, name = small()
    (generation,) = Repository.open(blobs).generations()
    assert (generation.name, generation.status, generation.problems) == (name, Status.COMPLETE, ())
    assert generation.head == msgspec.structs.replace(head(), generation=name)
    assert generation.end is not None
    totals = {(total.kind, total.db): (total.entries, total.records) for total in generation.end.totals}
    assert totals == {("base", 0): (1, 3), ("base", 5): (1, 1), ("changes", None): (1, 5)}
    assert (generation.end.skipped, generation.end.vanished) == ({"gone": 1}, 1)
    assert (generation.end.ended_ms, generation.end.keyspace) == (NOW_MS + 100, {"0": {"keys": 3}})


def test_gaps_are_said_with_their_reasons() -> None:
    blobs = MemoryBlobs()
    gap = Gap(start_ms=5, end_ms=None, reason="the source was restarted", lane=LANE)
    write_whole(blobs, gaps=(gap,))
    (generation,) = Repository.open(blobs).generations()
    assert generation.status is Status.GAPS
    assert generation.end is not None
    assert generation.end.gaps == (gap,)


def test_an_unfinished_generation_is_read_by_explicit_wish_only() -> None:
    blobs, name = small(finished=False)
    repository = Repository.open(blobs)
    assert [generation.status for generation in repository.generations()] == [Status.UNFINISHED]
    fault, text = fault_of(GenerationReader.open, repository, name)
    assert fault is CatalogFault.STATE
    assert "unfinished" in text
    assert list(GenerationReader.open(repository, name, unfinished=True).records()) == TRUTH


def test_generations_are_listed_oldest_first_and_apart_from_waste() -> None:
    blobs, repository = MemoryBlobs(), Repository.create(MemoryBlobs())
    repository = Repository.create(blobs)
    moments = [NOW_MS, NOW_MS + 1, NOW_MS + 86_400_000, NOW_MS - 5000]
    names = [GenerationWriter.begin(repository, head(), now_ms=lambda at=at: at).name for at in moments]  # type: ignore[misc]
    blobs.put("20200101T000000.000Z-00000000/00000001-0a1b2c.seg", b"waste of a crash")
    blobs.put("notes.txt", b"of somebody")
    blobs.put(f"{names[0]}/notes.txt", b"of somebody")
    assert [generation.name for generation in repository.generations()] == sorted(names)
    assert names[0].startswith("20261122T210000.123Z-")
    assert fault_of(repository.generation, "20200101T000000.000Z-00000000")[0] is CatalogFault.ABSENT
    for name in ("nothing", "", "../x", "repository.json"):
        assert fault_of(repository.generation, name)[0] is CatalogFault.ABSENT


def test_two_generations_of_one_moment_have_two_names() -> None:
    repository = Repository.create(MemoryBlobs())
    names = {GenerationWriter.begin(repository, head(), now_ms=lambda: NOW_MS).name for _ in range(50)}
    assert len(names) == 50


def test_where_there_is_no_repository_says_so() -> None:
    fault, text = fault_of(Repository.open, MemoryBlobs())
    assert fault is CatalogFault.ABSENT
    assert "repository.json" in text


def test_a_newer_repository_asks_for_a_newer_program() -> None:
    blobs, _ = small()
    blobs.objects["repository.json"] = object_bytes(RepositoryObject(format="cachekeep-backup", version=2, created="x"))
    for opened in (Repository.open, Repository.open_or_create):
        fault, text = fault_of(opened, blobs)
        assert fault is CatalogFault.NEWER
        assert "update" in text


def test_a_wrong_secret_is_told_before_anything_else_is_read() -> None:
    class Counting(MemoryBlobs):
        reads: list[str]

        def open(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            self.reads.append(name)
            return super().open(name)

    blobs = Counting()
    blobs.objects, blobs.reads = small(Passphrase("right"))[0].objects, []
    for secret, why in ((Passphrase("wrong"), "wrong"), (None, "give its passphrase"), (KEY, "not with a key file")):
        fault, text = fault_of(Repository.open, blobs, secret)
        assert fault is CatalogFault.SECRET
        assert why in text
    assert set(blobs.reads) == {"repository.json"}
    Repository.open(blobs, Passphrase("right"))
    assert fault_of(Repository.open, small()[0], KEY)[0] is CatalogFault.SECRET


def test_a_sealed_repository_shows_neither_keys_nor_values() -> None:
    blobs = MemoryBlobs()
    repository = Repository.create(blobs, KEY)
    generation = GenerationWriter.begin(repository, head())
    with SegmentWriter(generation, "base", LANE, 0) as segment:
        segment.add([Record(Kind.UPSERT, 0, -1, NOW_MS, b"secret-key", b"secret-value")])
        segment.close("0")
    generation.log([{"event": "skipped", "key": "secret-log"}])
    generation.finish()
    stored = b"".join(blobs.objects.values())
    assert b"secret" not in stored
    assert b"log-00000001" in stored
    reader = GenerationReader.open(Repository.open(blobs, KEY), generation.name)
    assert [record.key for record in reader.records()] == [b"secret-key"]
    assert list(reader.log_lines()) == [{"event": "skipped", "key": "secret-log"}]


def test_digests_are_verified_without_the_key() -> None:
    blobs, name = small(KEY)
    keyless = Repository(blobs, Repository.open(blobs, KEY).sealing, None)
    assert verify_chain(keyless, name) == []
    segment = next(target for target in blobs.objects if target.endswith(".seg"))
    blobs.objects[segment] = blobs.objects[segment][:-1] + b"!"
    assert any(finding.frame is not None for finding in verify_chain(keyless, name))
    assert KeyFile(bytes(32)).key not in blobs.objects[segment]


def test_a_copy_resumes_where_its_entries_say() -> None:
    blobs = MemoryBlobs()
    repository = Repository.create(blobs)
    generation = GenerationWriter.begin(repository, head())
    steps = [("a:1", 0, "10"), ("a:1", 0, "20"), ("b:1", 0, "7"), ("a:1", 3, "0"), ("b:1", 0, "9")]
    for lane, db, cursor in steps:
        with SegmentWriter(generation, "base", lane, db) as segment:
            segment.add(BASE)
            segment.close(cursor)
    with SegmentWriter(generation, "changes", "a:1") as segment:
        segment.close()
    blobs.put(f"{generation.name}/00000099-0a1b2c.seg", b"waste")
    resumed = GenerationWriter.resume(repository, generation.name)
    assert resumed.resume_points() == {
        ("a:1", 0): ResumePoint("20", complete=False),
        ("b:1", 0): ResumePoint("9", complete=False),
        ("a:1", 3): ResumePoint("0", complete=True),
    }
    assert resumed.next_segment().name.startswith("00000100-")


def test_what_is_finished_or_damaged_is_not_resumed() -> None:
    blobs, name = small()
    assert fault_of(GenerationWriter.resume, Repository.open(blobs), name)[0] is CatalogFault.STATE
    blobs, name = small(finished=False)
    segment = next(target for target in blobs.objects if target.endswith(".seg"))
    del blobs.objects[segment]
    fault, text = fault_of(GenerationWriter.resume, Repository.open(blobs), name)
    assert fault is CatalogFault.DAMAGED
    assert segment in text
    assert fault_of(GenerationWriter.resume, Repository.open(blobs), name[:-4] + "0000")[0] is CatalogFault.ABSENT


def test_the_engines_own_stream_comes_back_in_order_per_lane() -> None:
    repository = Repository.create(MemoryBlobs())
    generation = GenerationWriter.begin(repository, head())
    for lane, piece in (("a:1", b"REDIS"), ("b:1", b"other"), ("a:1", b"0011"), ("a:1", b"\xff" * 8)):
        with SegmentWriter(generation, "rdb", lane) as segment:
            segment.add([Record(Kind.PIECE, 0, -1, NOW_MS, b"", piece)])
            segment.close()
    generation.finish()
    reader = GenerationReader.open(repository, generation.name)
    assert b"".join(reader.stream("rdb", "a:1")) == b"REDIS0011" + b"\xff" * 8
    assert b"".join(reader.stream("rdb", "c:1")) == b""
    assert list(reader.records()) == []


def test_an_entry_with_a_name_that_means_another_place_is_damage() -> None:
    blobs, name = small()
    target = f"{name}/00000001.json"
    whole = read_chain(Repository.open(blobs), name).entries[0]
    blobs.objects[target] = object_bytes(msgspec.structs.replace(whole, segment="../../../etc/passwd"))
    assert any(target in str(finding) for finding in verify_chain(Repository.open(blobs), name))


def test_an_entry_with_a_huge_number_costs_nothing() -> None:
    blobs, name = small(finished=False)
    blobs.put(f"{name}/999999999999999999.json", b"x")
    findings = verify_chain(Repository.open(blobs), name)
    assert any("entries 4 to 999999999999999998 are missing" in str(finding) for finding in findings)
    assert Repository.open(blobs).generation(name).status is Status.DAMAGED


def test_progress_is_told_per_segment() -> None:
    blobs, name = small()
    seen: list[Place] = []
    verify_chain(Repository.open(blobs), name, progress=seen.append)
    assert [place.number for place in seen] == [1, 2, 3]


def test_a_repository_in_a_folder(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "backups")
    name = write_whole(blobs, KEY)
    repository = Repository.open(LocalBlobs(tmp_path / "backups"), KEY)
    assert verify_chain(repository, name) == []
    assert list(GenerationReader.open(repository, name).records()) == TRUTH
    with pytest.raises(BlobError, match="is there already"):
        Repository.create(blobs)
    repository.remove(name)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["repository.json"]
