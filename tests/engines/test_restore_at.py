"""Followed sources restored to moments: each is what the source was then. Real servers; generations made by hand."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backup_samples import BINARY, FUTURE_MS, expiry_of, fill_all_types, keys_of, raw, records_of, same_state, state

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.contents import Selected, contents_of, literal, open_generation
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.diff import diff
from cachekeep.backup.glob_match import matcher
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.verify import VerifyReport, verify
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.cli.main import main
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.resp import pack
from cachekeep.domain.blobs import BlobInfo
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

VERSION = "9.1"
T0 = 1_795_381_200_000  # 2026-11-22T21:00:00Z by the source's clock
LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return {} end)"
DONE, FAILED, MISUSE, GAPS, DIFFERENT = 0, 1, 2, 4, 5


class Story:
    """A followed generation, written as a capture would. Moments in ms after T0."""

    def __init__(
        self,
        folder: Path,
        server: Any,
        method: str = "tracking",
        ahead_ms: int = 0,
        repository: Repository | None = None,
    ) -> None:
        seen = survey(open_remote(server.url))
        self.repository = repository or Repository.open_or_create(LocalBlobs(folder))
        head = Head(
            source=seen.name,
            engine=seen.target.engine.value,
            engine_version=str(seen.target.version),
            mode=seen.mode,
            lanes=(Lane(lane="only"),),
            databases={str(db): size.keys for db, size in seen.databases.items()},
            began_ms=T0 - ahead_ms,
            source_began_ms=T0,
            options={
                "method": "scan",
                "databases": None,
                "match": None,
                "follow": method,
                "limits": ["sees no dreams"],
            },
        )
        self.writer = GenerationWriter.begin(self.repository, head)
        self.name = self.writer.name

    def add(
        self, kind: Any, records: list[Record], covers: tuple[int, int] | None = None, db: int | None = None
    ) -> Story:
        with SegmentWriter(self.writer, kind, "only", db) as segment:
            segment.add(records)
            stretch = None if covers is None else (T0 + covers[0], T0 + covers[1])
            segment.close("0" if kind == "base" else None, covers=stretch)
        return self

    def gap(self, start: int, end: int | None, reason: str) -> Story:
        end_ms = None if end is None else T0 + end
        self.writer.log([{"event": "gap", "start_ms": T0 + start, "end_ms": end_ms, "reason": reason, "lane": None}])
        return self

    @property
    def made(self) -> tuple[Repository, str]:
        return self.repository, self.name


def at(records: list[Record], after: int) -> list[Record]:
    """As if they had been captured then."""
    return [
        Record(one.kind, one.db, one.expires_ms, T0 + after, one.key, one.payload)  # what a capture stamps
        for one in records
    ]


def gone(key: bytes, after: int, db: int = 0) -> Record:
    return Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, T0 + after, key, b"")


def flushed(after: int, db: int = 0) -> Record:
    return Record(int(Kind.FLUSHED), db, NO_EXPIRY, T0 + after, b"", b"")


def string(c: Any, key: bytes, value: object, after: int) -> list[Record]:
    """Set it at the source; the record of that."""
    c.execute_command("SET", key, value)
    return at(records_of(c, VERSION, keys=[key]), after)


@pytest.fixture
def scratch(catalogue: MachineCatalogue) -> LocalScratch:
    return LocalScratch(catalogue, open_socket)


@pytest.fixture
def restored(scratch: LocalScratch) -> Callable[..., RestoreReport]:
    def put_back(story: Story, server: Any, after: int | None, **options: Any) -> RestoreReport:
        remote = open_remote(server.url)
        at_ms = None if after is None else T0 + after
        with open_generation(*story.made, scratch, at_ms=at_ms) as contents:
            return restore(contents, remote, survey(remote), RestoreOptions(**options))

    return put_back


@pytest.fixture
def pair(start_server: Callable[..., Any], client: Callable[..., Any]) -> tuple[Any, Any, Any, Any]:
    """source, its client, target, its client."""
    source, target = start_server(VERSION), start_server(VERSION)
    return source, raw(client(source)), target, raw(client(target))


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


# clocks


class WrongClock:
    """A door to a server that tells another time: in replies to TIME only. Its threads end with the context."""

    _TIME = re.compile(rb"\*2\r\n\$10\r\n(\d{10})\r\n\$(\d)\r\n(\d{1,6})\r\n")
    _BEGUN = re.compile(rb"\*2\r\n(\$10\r\n(\d{10}\r\n(\$\d\r\n)?)?)?\Z")

    def __init__(self, host: str, server: Any, ahead_s: float) -> None:
        self._server, self._ahead_us = (server.host, server.port), round(ahead_s * 1e6)
        self._listener = socket.create_server((host, 6379))
        self._ended, self._threads = threading.Event(), list[threading.Thread]()
        self.url = f"redis://{host}:6379"

    @classmethod
    @contextmanager
    def before(cls, host: str, server: Any, ahead_s: float) -> Iterator[WrongClock]:
        door = cls(host, server, ahead_s)
        accepting = threading.Thread(target=door._accept)
        accepting.start()
        try:
            yield door
        finally:
            door._ended.set()
            accepting.join()
            for thread in door._threads:
                thread.join()
            door._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                thread = threading.Thread(target=self._serve, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _serve(self, near: socket.socket) -> None:
        held = b""
        with near, socket.create_connection(self._server) as far:
            while not self._ended.is_set():
                for side in select.select([near, far], [], [], 0.05)[0]:
                    try:
                        data = side.recv(1 << 16)
                    except ConnectionError:
                        return
                    if not data:
                        return
                    if side is near:
                        far.sendall(data)
                        continue
                    held = self._TIME.sub(self._told, held + data)
                    begun = self._BEGUN.search(held)  # of a reply to TIME, maybe: the rest is on its way
                    cut = begun.start() if begun else len(held)
                    near.sendall(held[:cut])
                    held = held[cut:]

    def _told(self, found: re.Match[bytes]) -> bytes:
        moment_us = int(found[1]) * 1_000_000 + int(found[3]) + self._ahead_us
        micro = b"%d" % (moment_us % 1_000_000)
        return b"*2\r\n$10\r\n%d\r\n$%d\r\n%b\r\n" % (moment_us // 1_000_000, len(micro), micro)


@pytest.mark.parametrize("ahead_s", [3600.0, -40.0])
def test_expiries_move_with_a_targets_clock_that_is_wrong(
    pair: Any,
    tmp_path: Path,
    scratch: LocalScratch,
    fresh_address: Callable[..., Any],
    ahead_s: float,
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "text", 1)
    c.execute_command("PEXPIREAT", "text", FUTURE_MS)
    c.execute_command("HSET", "hash", "f", 1, "g", 2)
    c.execute_command("HPEXPIREAT", "hash", FUTURE_MS, "FIELDS", 1, "f")
    story = Story(tmp_path / "place", source).add("base", at(records_of(c, VERSION), -9), db=0)
    story.add("changes", string(c, b"never", 1, 50), (0, 100))
    with WrongClock.before(fresh_address().host, target, ahead_s) as door:
        remote = open_remote(door.url)
        with open_generation(*story.made, scratch) as contents:
            report = restore(contents, remote, survey(remote))
            again = restore(contents, remote, survey(remote))
            compared = diff(contents, remote, survey(remote))
        living = open_remote(source.url)
        others = diff(contents_of(living, survey(living)), remote, survey(remote))
    expected = FUTURE_MS + ahead_s * 1000
    slack_ms = 900
    assert abs(report.clock_shift_ms - ahead_s * 1000) < slack_ms
    assert abs(t.execute_command("PEXPIRETIME", "text") - expected) < slack_ms
    (field,) = t.execute_command("HPEXPIRETIME", "hash", "FIELDS", 1, "f")
    assert abs(field - expected) < slack_ms
    assert t.execute_command("PEXPIRETIME", "never") == -1
    # A field's expiry is compared exactly, and the distance of the clocks is measured anew.
    assert again.databases[0].kept >= 2
    assert [what for _, key, what in compared.named if key != b"hash"] == []
    assert abs(others.clock_shift_ms - ahead_s * 1000) < slack_ms
    assert [what for _, key, what in others.named if key != b"hash"] == []


def test_a_source_whose_clock_was_wrong_is_restored_by_the_targets(
    pair: Any, tmp_path: Path, restored: Callable[..., RestoreReport]
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "text", 1)
    c.execute_command("PEXPIREAT", "text", FUTURE_MS)
    story = Story(tmp_path / "place", source, ahead_ms=60_000)
    story.add("base", at(records_of(c, VERSION), -9), db=0).add("changes", string(c, b"b", 1, 50), (0, 100))
    report = restored(story, target, 50)
    assert abs(report.clock_shift_ms + 60_000) < 900
    assert abs(t.execute_command("PEXPIRETIME", "text") - (FUTURE_MS - 60_000)) < 900


def test_clocks_less_than_a_second_apart_leave_expiries_as_they_are(
    pair: Any, tmp_path: Path, scratch: LocalScratch, fresh_address: Callable[..., Any]
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "text", 1)
    c.execute_command("PEXPIREAT", "text", FUTURE_MS)
    story = Story(tmp_path / "place", source, ahead_ms=400)
    story.add("base", at(records_of(c, VERSION), -9), db=0).add("changes", string(c, b"b", 1, 50), (0, 100))
    with WrongClock.before(fresh_address().host, target, 0.1) as door:
        remote = open_remote(door.url)
        with open_generation(*story.made, scratch) as contents:
            assert restore(contents, remote, survey(remote)).clock_shift_ms == 0
    assert t.execute_command("PEXPIRETIME", "text") == FUTURE_MS


# commands


@pytest.fixture
def backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`backup("list", "place") -> (code, stdout, stderr)`, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["backup", *words])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return call


def ours(after: int, ahead_ms: int = 60_000) -> str:
    return moment_text(T0 + after - ahead_ms)


def test_the_commands_tell_and_restore_moments_by_this_machines_clock(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, target, t = pair
    story = Story(tmp_path / "place", source, ahead_ms=60_000).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).gap(100, 200, "the source was restarted")
    story.add("changes", string(c, b"a", 2, 200), (200, 300))

    code, listed, _ = backup("list", "place")
    assert code == DONE
    assert "open" in listed
    assert f"covers 2 parts of {ours(0)} to {ours(300)}, 1 gap" in listed
    code, shown, _ = backup("show", "place")
    assert code == DONE
    for line in (
        "follow   tracking",
        "limit    sees no dreams",
        "60.0 s ahead of this machine's",
        f"covers   {ours(0)} to {ours(100)}",
        f"gap      {ours(100)} to {ours(200)}: the source was restarted",
        f"latest   {ours(300)}",
        "follow   tracking, being followed (last sign ",
        "segments #2 to #3 each end at a moment: --at '#3'",
    ):
        assert line in shown
    assert "only" not in shown
    assert "; being followed (last sign " in listed
    story.writer.log([{"event": "sealed", "at_ms": time.time_ns() // 1_000_000 + 5000}])
    code, shown, _ = backup("show", "place")
    assert "follow   tracking, stopped, sealed" in shown
    assert re.search(r"log +sealed 20\d\d-\d\d-\d\dT[\d:]+Z\n", shown)
    assert "at_ms" not in shown
    assert "; stopped, sealed" in backup("list", "place")[1]
    page = json.loads(backup("show", "place", "--json")[1])
    assert [(one["since"], one["until_ms"]) for one in page["covered"]] == [(ours(0), T0 + 100), (ours(200), T0 + 300)]
    assert [one["reason"] for one in page["uncovered"]] == ["the source was restarted"]
    assert json.loads(backup("list", "place", "--json")[1])[0]["latest"] == ours(300)

    code, said, _ = backup("restore", "place", target.url, "--at", ours(70))
    assert code == DONE
    assert f"as of {ours(70)}" in said
    assert "expiries were moved" in said
    assert t.execute_command("GET", "a") == b"1"
    code, _, refused = backup("restore", "place", target.url, "--at", ours(150))
    assert code == FAILED
    assert "the source was restarted" in refused
    assert f"--at {ours(100)} or --at {ours(200)}" in refused
    assert backup("restore", "place", target.url, "--at", "5 o'clock")[0] == MISUSE
    assert backup("restore", "place", target.url, "--at", "#2", "--json")[0] == DONE
    code, _, absent = backup("restore", "place", target.url, "--at", f"{story.name}/00000002", "--key", "n\u00f6")
    assert code == FAILED
    assert f"has no key n\u00f6 as of {ours(100)}; nothing was written" in " ".join(absent.split())
    assert backup("restore", "place", target.url, "--at", "now", "--dry-run")[0] == DONE
    code, out, _ = backup("restore", "place", target.url, "--json")
    assert (code, json.loads(out)["at"], json.loads(out)["at_ms"]) == (DONE, ours(300), T0 + 300)
    assert t.execute_command("GET", "a") == b"2"

    assert backup("diff", "place", target.url, "--at", "latest")[0] == DONE
    assert backup("diff", "place", target.url, "--at", ours(0))[0] == DIFFERENT
    code, proof, _ = backup("verify", "place", "--deep", "--at", ours(50))
    assert code == DONE, proof
    assert f"proved, as of {ours(50)}" in proof
    assert backup("verify", "place")[0] == DONE


def test_one_key_of_a_moment_goes_to_a_file_or_to_another_name(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, target, t = pair
    base = string(c, b"\xff*", "then", -9) + string(c, b"user:1", "u", -8)
    story = Story(tmp_path / "place", source).add("base", base, db=0)
    story.add("changes", [*string(c, b"\xff*", "later", 50), gone(b"user:1", 60)], (0, 100))
    when = ("--at", moment_text(T0 + 10))
    assert backup("restore", "place", target.url, *when, "--key", r"\xff*", "--as", r"saved\n")[0] == DONE
    assert {key: t.execute_command("GET", key) for key in keys_of(t)} == {b"saved\n": b"then"}
    assert backup("restore", "place", target.url, *when, "--match", "user:*")[0] == DONE
    assert keys_of(t) == [b"saved\n", b"user:1"]
    for wrong in (("--as", "x"), ("--key", "a", "--match", "b"), ("--key", r"\q")):
        assert backup("restore", "place", target.url, *when, *wrong)[0] == MISUSE
    for gone_there in (("--key", "user:1"), (*when, "--key", "user:1", "--db", "1")):
        code, _, absent = backup("restore", "place", target.url, *gone_there)
        assert code == FAILED
        assert "has no key" in absent
    code, out, _ = backup("export", "place", "out", "--format", "json", *when, "--key", "b64:/yo=", "--json")
    assert code == DONE
    assert json.loads(out)["report"]["written"] == {"0": 1}
    code, out, _ = backup("export", "place", "all", "--format", "resp", "--match", "user:*", *when, "--json")
    assert json.loads(out)["report"]["written"] == {"0": 1}
    assert backup("export", "place", "none", "--format", "json", "--key", "nobody")[0] == FAILED
    assert not (tmp_path / "none").exists()


def test_a_stream_is_exported_up_to_a_moment_for_the_engine_itself(
    start_server: Callable[..., Any], tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source = start_server(VERSION, "--dbfilename", "own.rdb")
    source.ask("SET", "a", 0)
    source.ask("SAVE")
    story = Story(tmp_path / "place", source, "psync")
    data = (source.folder / "own.rdb").read_bytes()
    story.add("rdb", [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 - 9, b"", data)])
    commands = [(10, pack("SELECT", 0) + pack("SET", "a", 1)), (60, pack("SET", "a", 2)), (160, pack("SET", "a", 3))]
    pieces = [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 + after, b"", one) for after, one in commands]
    story.add("commands", pieces, (0, 100))
    for number, (words, value) in enumerate(((("--at", moment_text(T0 + 50)), b"1"), ((), b"2"))):
        folder = f"out-{number}"
        code, said, _ = backup("export", "place", folder, "--format", "aof", *words)
        assert code == DONE
        assert str(folder) in said
        loaded = start_server(VERSION, "--appendonly", "yes", "--dir", str(tmp_path / folder))
        assert loaded.ask("GET", "a") == value
    assert backup("export", "place", "out", "--format", "aof", "--key", "a")[0] == MISUSE
    code, _, refused = backup("export", "place", "out", "--format", "aof", "--at", moment_text(T0 + 150))
    assert code == FAILED
    assert "cannot be restored" in refused


def test_a_capture_of_a_source_with_another_clock_tells_moments_that_can_be_restored(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]], fresh_address: Callable[..., Any]
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "a", 1)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with WrongClock.before(fresh_address().host, source, 3600.0) as door:
        words = ("backup", "run", door.url, "place", "--follow", "--json", "--source", "tracking", "--max-lag", "1s")
        with subprocess.Popen(
            [sys.executable, "-m", "cachekeep", *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            changed_ms, last = None, dict[str, Any]()
            for line in process.stdout:
                last = json.loads(line)
                if last["event"] != "status" or last["covered_until_ms"] is None:
                    continue
                if changed_ms is None:
                    c.execute_command("SET", "a", 2)
                    changed_ms = time.time_ns() // 1_000_000
                elif (last["durable_until_ms"] or 0) > changed_ms:
                    assert last["durable_until_ms"] < time.time_ns() // 1_000_000 + 5000
                    process.send_signal(signal.SIGINT)
        assert process.returncode == DONE
    assert last["event"] == "sealed"
    ((since_ms, until_ms),) = last["stretches"]
    assert last["began_ms"] <= since_ms < changed_ms < until_ms == last["latest_ms"]
    page = json.loads(backup("show", "place", "--json")[1])
    assert page["clock_ahead_ms"] > 3_590_000
    assert [(one["since"], one["until"]) for one in page["covered"]] == [(moment_text(since_ms), moment_text(until_ms))]
    assert page["capture"]["state"] == "sealed"
    assert backup("restore", "place", target.url, "--at", moment_text(until_ms))[0] == DONE
    assert t.execute_command("GET", "a") == b"2"


def test_a_capture_that_gave_no_sign_is_not_called_followed(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, c, _, _ = pair
    monkeypatch.setattr(time, "time_ns", lambda: T0 * 1_000_000)
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for days, said in ((0.25, "or waiting for its source"), (3.01, "stopped without sealing (last sign 3 d 0 h ago)")):
        now = round((T0 + days * 86_400_000) * 1_000_000)
        with monkeypatch.context() as later:
            later.setattr(time, "time_ns", lambda now=now: now)
            assert said in backup("show", "place")[1]
            page = json.loads(backup("list", "place", "--json")[1])[0]
        assert page["capture"]["state"] in ("silent", "lost")
        assert page["capture"]["last_sign"] == "2026-11-22T21:00:00Z"
    assert "no gaps" in backup("show", "place")[1]
    assert ", no gaps; stopped" in backup("list", "place")[1]


def test_a_polled_backup_tells_its_recovery_point(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, _, _ = pair
    story = Story(tmp_path / "place", source, "poll").add("base", string(c, b"a", 0, -9), db=0)
    for moment in (0, 40_000, 55_200):
        story.add("changes", [], (moment, moment))
    assert "recovery point: at most 40 s" in backup("show", "place")[1]
    assert "3 moments of" in backup("list", "place")[1]
    assert json.loads(backup("show", "place", "--json")[1])["recovery_point_ms"] == 40_000


def test_a_gap_that_goes_on_is_shown_until_now(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, target, _ = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).gap(100, None, "the source is gone")
    assert f"gap      {ours(100, 0)} to now: the source is gone" in backup("show", "place")[1]
    code, _, refused = backup("restore", "place", target.url, "--at", "-1ms")
    assert code == FAILED
    assert "the source is gone" in refused
    assert time.time_ns() // 1_000_000 > T0, "the story is of the past"
