"""Followed sources restored to moments: each is what the source was then. Real servers; generations made by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import BINARY, FUTURE_MS, expiry_of, fill_all_types, keys_of, raw, records_of, same_state, state
from followed import T0, VERSION, Story, at, flushed, gone, put_back, string

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.contents import Selected, literal, open_generation
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.glob_match import matcher
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.verify import VerifyReport, verify
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.resp import pack
from cachekeep.domain.blobs import BlobInfo
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return {} end)"


@pytest.fixture
def restored(scratch: LocalScratch) -> Callable[..., RestoreReport]:
    def back(story: Story, server: Any, after: int | None, **options: Any) -> RestoreReport:
        return put_back(story, server, scratch, after, **options)

    return back


@pytest.fixture
def lived(pair: Any, tmp_path: Path) -> tuple[Story, dict[int, Any]]:
    """A source with everything in it that changed every 100 ms, and what it was after each change."""
    source, c, _, _ = pair
    fill_all_types(c, VERSION)
    story = Story(tmp_path / "place", source).add("base", at(records_of(c, VERSION), -50), db=0)
    truth = {0: state(c, VERSION)}
    steps: list[tuple[tuple[Any, ...], list[bytes]]] = [
        (("SET", "string", "later"), [b"string"]),
        (("RENAME", "string", BINARY), [b"string", BINARY]),
        (("PEXPIREAT", BINARY, FUTURE_MS + 77), [BINARY]),
        (("XACK", "stream", "readers", "1000-1"), [b"stream"]),
        (("DEL", "stream"), [b"stream"]),
        (("LPUSH", "stream", "another type"), [b"stream"]),
        (("FLUSHALL",), []),
        (("SET", "string", "after the flood"), [b"string"]),
        (("PERSIST", "string"), [b"string"]),
    ]
    for number, (words, keys) in enumerate(steps, 1):
        after = number * 100
        c.execute_command(*words)
        there = set(keys_of(c))
        records = at(records_of(c, VERSION, keys=[key for key in keys if key in there]), after)
        records += [gone(key, after) for key in keys if key not in there]
        records += [flushed(after)] if words == ("FLUSHALL",) else []
        truth[after] = state(c, VERSION)
        story.add("changes", records, (0 if number == 1 else after - 100, after))
    return story, truth


def test_every_moment_is_what_the_source_was_then_in_any_order(
    lived: Any, pair: Any, restored: Callable[..., RestoreReport]
) -> None:
    story, truth = lived
    _, _, target, t = pair
    for after in (500, 0, 900, 300, 150, 700, 100, 899, 400, 799, 600, 200):
        report = restored(story, target, after, delete_extra=True)
        assert report.complete
        then = max(moment for moment in truth if moment <= after)
        assert same_state(state(t, VERSION), truth[then]) == [], after
    again = restored(story, target, 200, delete_extra=True)
    assert again.written == 0, "what is there already is left alone"


def test_a_moment_within_a_segment_leaves_out_what_came_later(
    pair: Any, tmp_path: Path, scratch: LocalScratch, client: Callable[..., Any]
) -> None:
    source, c, _, _ = pair
    c.execute_command("FUNCTION", "LOAD", LIBRARY.format(1))
    first = c.execute_command("FUNCTION", "DUMP")
    c.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY.format(2))
    second = c.execute_command("FUNCTION", "DUMP")
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 1, -9) + string(c, b"b", 1, -8), db=0)
    changes = [*string(c, b"a", 2, 10), gone(b"b", 20), flushed(30), *string(c, b"c", 1, 40), gone(b"a", 50)]
    story.add("changes", changes, (0, 60))
    for payload, after in ((first, 15), (second, 45)):
        story.add("functions", [Record(int(Kind.FUNCTIONS), 0, NO_EXPIRY, T0 + after, b"", payload)])
    story.add("changes", string(c, b"d", 1, 65), (60, 70))
    kept: dict[int, set[bytes]] = {}
    libraries = {}
    for after in (5, 15, 25, 35, 45, 60, 70):
        with open_generation(*story.made, scratch, at_ms=T0 + after) as contents:
            assert contents.captured_ms == T0 + after
            assert contents.why_partial(None) is None
            found = [record for batch in contents.batches() for record in batch]
            kept[after] = {record.key for record in found if record.kind == Kind.UPSERT}
            libraries[after] = contents.functions()
    assert kept == {5: {b"a", b"b"}, 15: {b"a", b"b"}, 25: {b"a"}, 35: set(), 45: {b"c"}, 60: {b"c"}, 70: {b"c", b"d"}}
    # Entries behind the one that covers the moment are not needed for it.
    assert [libraries[after] for after in (5, 60, 70)] == [None, None, second]


def test_an_open_generation_is_read_at_its_last_covered_moment_and_never_beyond(
    pair: Any, tmp_path: Path, scratch: LocalScratch, restored: Callable[..., RestoreReport]
) -> None:
    source, c, target, t = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", "base", -9), db=0)
    with pytest.raises(CatalogError, match="covers no moment yet") as refused, open_generation(*story.made, scratch):
        pass
    assert refused.value.fault is CatalogFault.STATE
    story.add("changes", string(c, b"a", "covered", 50), (0, 100)).add("changes", string(c, b"a", "beyond", 150))
    assert story.repository.generation(story.name).status is Status.OPEN
    assert restored(story, target, None, delete_extra=True).complete
    assert t.execute_command("GET", "a") == b"covered"
    for after, near in ((-1, 0), (150, 100)):
        with pytest.raises(CatalogError, match=re.escape(moment_text(T0 + near))):
            restored(story, target, after)


def test_a_past_gap_does_not_make_other_moments_partial(
    pair: Any, tmp_path: Path, restored: Callable[..., RestoreReport]
) -> None:
    source, c, target, t = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).gap(100, 200, "the source was restarted")
    story.add("changes", string(c, b"a", 2, 180), (200, 300))
    t.execute_command("SET", "extra", 1)
    assert restored(story, target, 250, delete_extra=True).complete
    assert (t.execute_command("GET", "a"), keys_of(t)) == (b"2", [b"a"])
    with pytest.raises(CatalogError, match="does not cover"):
        restored(story, target, 150, delete_extra=True)


def test_keys_that_a_capture_could_not_read_are_not_taken_for_extra(
    pair: Any, tmp_path: Path, restored: Callable[..., RestoreReport]
) -> None:
    source, c, target, _ = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.writer.log([{"event": "skipped", "db": 0, "key": "b", "reason": "NOPERM"}])
    story.add("changes", string(c, b"a", 1, 50), (0, 100))
    with pytest.raises(Exception, match="nothing is deleted: 1 keys could not be copied"):
        restored(story, target, 50, delete_extra=True)
    assert restored(story, target, 50).complete


@pytest.mark.parametrize("version", ["9.1", "7.0"])
def test_a_stream_of_commands_is_carried_out_up_to_the_moment(
    start_server: Callable[..., Any],
    client: Callable[..., Any],
    tmp_path: Path,
    restored: Callable[..., RestoreReport],
    version: str,
) -> None:
    source, target = start_server(version, "--dbfilename", "own.rdb"), start_server(version)
    c, t = raw(client(source)), raw(client(target))
    c.execute_command("MSET", "a", 0, "b", 0)
    c.execute_command("SAVE")
    story = Story(tmp_path / "place", source, "psync")
    data = (source.folder / "own.rdb").read_bytes()
    story.add("rdb", [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 - 9, b"", data)])
    commands = [
        (10, pack("SELECT", 0) + pack("SET", "a", 1)),
        (20, pack("DEL", "b") + pack("PEXPIREAT", "a", FUTURE_MS)),
        (30, pack("SELECT", 20) + pack("MULTI") + pack("SET", "far", 1)),
        (40, pack("EXEC") + pack("SELECT", 0) + pack("SET", "c", 1)),
    ]
    pieces = [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 + after, b"", one) for after, one in commands]
    story.add("commands", pieces[:2], (0, 25)).add("commands", pieces[2:], (25, 50))
    seen = {}
    for after in (5, 10, 25, 35, 50):
        report = restored(story, target, after, delete_extra=True, databases=frozenset({0}))
        assert report.complete
        seen[after] = (t.execute_command("GET", "a"), keys_of(t), expiry_of(t, "a", version))
    assert seen == {
        5: (b"0", [b"a", b"b"], -1),
        10: (b"1", [b"a", b"b"], -1),
        25: (b"1", [b"a"], FUTURE_MS),
        35: (b"1", [b"a"], FUTURE_MS),
        50: (b"1", [b"a", b"c"], FUTURE_MS),
    }


def test_a_database_that_only_a_command_made_is_verified_too(
    start_server: Callable[..., Any], tmp_path: Path, scratch: LocalScratch
) -> None:
    source = start_server(VERSION, "--dbfilename", "own.rdb", "--databases", "40")
    source.ask("SAVE")
    story = Story(tmp_path / "place", source, "psync")
    data = (source.folder / "own.rdb").read_bytes()
    story.add("rdb", [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 - 9, b"", data)])
    far = pack("SELECT", 30) + pack("SET", "far", 1)
    story.add("commands", [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 + 10, b"", far)], (0, 50))
    report = verify(*story.made, deep=True, scratch=scratch)
    assert report.proved, report
    assert report.deep is not None
    assert report.deep.keys == {30: 1}
    with open_generation(*story.made, scratch) as contents:
        assert list(contents.databases()) == [30]


def test_one_key_of_a_moment_comes_back_under_its_own_or_another_name(
    pair: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    source, c, target, t = pair
    odd = b"a*[b]?\\c^-\xff"
    base = string(c, odd, "then", -9) + string(c, b"aXbYc", "another", -8)
    story = Story(tmp_path / "place", source).add("base", base, db=0)
    story.add("changes", [*string(c, odd, "now", 50), gone(odd, 70)], (0, 100))
    remote = open_remote(target.url)

    def put_back(after: int, name: bytes | None = None, **how: Any) -> RestoreReport:
        with open_generation(*story.made, scratch, at_ms=T0 + after) as contents:
            one = Selected(contents, key=odd, name=name, **how)
            match = literal(odd if name is None else name)
            options = RestoreOptions(match=match, delete_extra=how.get("may_be_absent", False))
            return restore(one, remote, survey(remote), options)

    assert put_back(10).written == 1
    assert put_back(60, b"copy").written == 1
    assert {key: t.execute_command("GET", key) for key in keys_of(t)} == {odd: b"then", b"copy": b"now"}
    with pytest.raises(CatalogError, match="has no key"):
        put_back(90)
    t.execute_command("SET", "another", 1)
    assert put_back(90, may_be_absent=True).databases[0].deleted == 1
    assert keys_of(t) == [b"another", b"copy"]


def test_the_glob_of_one_key_matches_that_key_alone(pair: Any) -> None:
    _, c, _, _ = pair
    keys = [b"a", b"*", b"?", b"[a]", b"a\\", b"\\a", b"^", b"-", b"a-z", b"[^a]", b"\xff\x00\n", b"]"]
    for key in keys:
        c.execute_command("SET", key, 1)
    for key in keys:
        ours = matcher(literal(key))
        assert [one for one in keys if ours(one)] == [key]
        assert c.execute_command("KEYS", literal(key)) == [key]


class LateListing(MemoryBlobs):
    """Its first listing, made while objects appeared, has not all of them."""

    missed = ""

    def list(self, folder: str = "") -> list[BlobInfo]:
        missed, self.missed = self.missed, ""
        return [info for info in super().list(folder) if not missed or missed not in info.name]


def test_what_is_being_written_is_not_taken_for_damaged(
    pair: Any, tmp_path: Path, scratch: LocalScratch, client: Callable[..., Any]
) -> None:
    source, c, _, _ = pair
    blobs = LateListing()
    story = Story(tmp_path, source, repository=Repository.create(blobs)).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).add("changes", string(c, b"a", 2, 150), (100, 200))
    for missed in ("00000002.json", "00000003-"):
        blobs.missed = missed
        with open_generation(*story.made, scratch) as contents:
            assert contents.at_ms == T0 + 200
        blobs.missed = missed
        assert judged(story, scratch).proved
    story.writer.finish()
    blobs.missed = "00000002.json"
    with pytest.raises(CatalogError, match="should have 3"), open_generation(*story.made, scratch):
        pass


# verify


def judged(story: Story, scratch: LocalScratch, after: int | None = None, **how: Any) -> VerifyReport:
    return verify(*story.made, at_ms=None if after is None else T0 + after, scratch=scratch, **how)


def test_an_open_generation_is_proved_as_far_as_it_goes(pair: Any, tmp_path: Path, scratch: LocalScratch) -> None:
    source, c, _, _ = pair
    remote = open_remote(source.url)
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    bare = judged(story, scratch, deep=True)
    assert (bare.intact, bare.proved, bare.at_ms) == (True, False, None)
    assert bare.notes == ("it is open and covers no moment yet: its copy is not whole",)
    story.add("changes", string(c, b"a", 1, 50), (0, 100))
    story.add("changes", string(c, b"a", 2, 150), (100, 200))
    report = judged(story, scratch, deep=True, against=(remote, survey(remote)))
    assert (report.proved, report.at_ms) == (True, T0 + 200)
    earlier = judged(story, scratch, 100, deep=True, against=(remote, survey(remote)))
    assert earlier.against is not None
    assert [what for _, _, what in earlier.against.named] == ["value"]
    assert not earlier.proved
    with pytest.raises(CatalogError, match="does not cover"):
        judged(story, scratch, 201, deep=True)


def test_claims_of_a_generation_are_held_against_its_log(pair: Any, tmp_path: Path, scratch: LocalScratch) -> None:
    source, c, _, _ = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).add("changes", string(c, b"a", 2, 250), (200, 300))
    (note,) = judged(story, scratch).notes
    assert note == f"{moment_text(T0 + 100)} to {moment_text(T0 + 200)} is not covered, and no log says why"
    assert judged(story, scratch).proved, "moments that are covered are proved all the same"
    story.gap(100, 200, "the source was away")
    assert judged(story, scratch).notes == ()
    story.gap(220, 280, "it was away again")
    report = judged(story, scratch)
    assert not report.proved
    assert [finding.what.partition(" is covered")[2] for finding in report.findings] == [
        " by its entries, and a gap by its log: it was away again"
    ]


def test_damage_of_a_followed_generation_is_found(pair: Any, tmp_path: Path, scratch: LocalScratch) -> None:
    source, c, _, _ = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100))
    segment = max((tmp_path / "place").glob("*/*.seg"))
    data = bytearray(segment.read_bytes())
    data[-5] ^= 1
    segment.write_bytes(bytes(data))
    report = judged(story, scratch)
    assert not report.intact
    assert not report.proved
