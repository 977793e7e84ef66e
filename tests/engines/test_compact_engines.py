"""A compacted backup is restored into a server, and is what the source was at each moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from backup_samples import fill_all_types, keys_of, raw, records_of, same_state, state

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.compact import compact
from cachekeep.backup.contents import open_generation
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.restore import RestoreOptions, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.verify import verify
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.cli.backup.compact import compact_
from cachekeep.cli.refusal import Refused
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

STEP_MS = 1000


@dataclass
class Followed:
    """What a capture would have written, and what the source was at each of its moments."""

    repository: Repository
    name: str
    began_ms: int
    truth: dict[int, list[dict[bytes, Any]]]


def at(records: list[Record], moment_ms: int) -> list[Record]:
    return [msgspec.structs.replace(record, captured_ms=moment_ms) for record in records]


def followed_by_hand(server: Any, client: Callable[..., Any], folder: Path, version: str) -> Followed:
    """A copy of all types in two databases, then steps of a second each, of which every change is known."""
    clients = [raw(client(server)), raw(client(server, 1))]
    fill_all_types(clients[0], version)
    clients[1].execute_command("SET", "second", "database")
    seen = survey(open_remote(server.url))
    # Long ago, so that no run can be taken to write it still.
    began_ms = records_of(clients[0], version, keys=[b"string"])[0].captured_ms - 3 * 86_400_000
    repository = Repository.create(LocalBlobs(folder / "backups"))
    head = Head(
        source=seen.name,
        engine=seen.target.engine.value,
        engine_version=str(seen.target.version),
        mode="standalone",
        lanes=(Lane(lane="only"),),
        databases={"0": 1},
        began_ms=began_ms,
        source_began_ms=began_ms,
        options={"method": "scan", "databases": None, "match": None, "follow": "tracking", "limits": []},
    )
    writer = GenerationWriter.begin(repository, head, now_ms=lambda: began_ms)
    for db, c in enumerate(clients):
        with SegmentWriter(writer, "base", "only", db) as segment:
            segment.add(at(records_of(c, version, db), began_ms))
            segment.close()
    steps: list[list[tuple[int, tuple[Any, ...]]]] = [
        [],
        [(0, ("APPEND", "string", "!")), (0, ("DEL", "hash:small")), (1, ("SET", "born", "1"))],
        [(0, ("XADD", "stream", "13000-0", "f", "v")), (0, ("XACK", "stream", "readers", "1000-1")), (1, ("FLUSHDB",))],
        [(1, ("RPUSH", "after", "the", "flush")), (0, ("RENAME", "list:many", "list:renamed"))],
        [(0, ("PERSIST", "string")), (0, ("PEXPIREAT", "set:small", 4_102_444_800_123))],
        [(0, ("SET", "string", "again")), (1, ("DEL", "after"))],
    ]
    truth: dict[int, list[dict[bytes, Any]]] = {}
    for step, commands in enumerate(steps):
        until_ms = began_ms + (step + 1) * STEP_MS
        with SegmentWriter(writer, "changes", "only") as segment:
            for number, (db, command) in enumerate(commands):
                clients[db].execute_command(*command)
                touched = [] if command[0] == "FLUSHDB" else [str(word).encode() for word in command[1:3]]
                segment.add(changes_of(clients[db], version, db, command[0], touched, until_ms - 500 + number))
            segment.close(covers=(until_ms - STEP_MS, until_ms))
        truth[until_ms] = [state(c, version) for c in clients]
    writer.finish(ended_ms=began_ms + len(steps) * STEP_MS)
    return Followed(repository, writer.name, began_ms, truth)


def changes_of(c: Any, version: str, db: int, verb: str, touched: list[bytes], moment_ms: int) -> list[Record]:
    if verb == "FLUSHDB":
        return [Record(int(Kind.FLUSHED), db, NO_EXPIRY, moment_ms, b"", b"")]
    there = set(keys_of(c))
    gone = [key for key in touched[: 2 if verb == "RENAME" else 1] if key not in there]
    tombstones = [Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, moment_ms, key, b"") for key in gone]
    return tombstones + at(records_of(c, version, db, [key for key in touched if key in there]), moment_ms)


@pytest.mark.parametrize("version", ["9.1", "6.2"])
def test_a_compacted_backup_restores_to_what_the_source_was_at_every_kept_moment(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path, scratch: LocalScratch, version: str
) -> None:
    made = followed_by_hand(start_server(version), client, tmp_path, version)
    first_ms = made.began_ms + 2 * STEP_MS
    done = compact(made.repository, made.name, before_ms=first_ms)
    assert done.made
    assert (done.since_ms, done.until_ms) == (first_ms, max(made.truth))
    assert (done.segments[1] or 99) < done.segments[0]
    target = start_server(version)
    remote, clients = open_remote(target.url), [raw(client(target)), raw(client(target, 1))]
    wipe = RestoreOptions(delete_extra=True)
    for moment_ms, expected in made.truth.items():
        if moment_ms < first_ms:
            continue
        with open_generation(made.repository, done.made, scratch, at_ms=moment_ms) as contents:
            assert restore(contents, remote, survey(remote), wipe).complete
        for c, was in zip(clients, expected, strict=True):
            # Before 7.0 a server tells expiries by its clock only.
            found = same_state(was, state(c, version), tolerance_ms=0 if version == "9.1" else 2)
            assert found == [], moment_ms - made.began_ms
    assert verify(made.repository, done.made, deep=True, scratch=scratch).proved


def test_the_command_compacts_what_was_followed_and_says_what_it_kept(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = followed_by_hand(start_server("9.1"), client, tmp_path, "9.1")
    place = str(tmp_path / "backups")
    day_s = 86_400.0
    compact_(place, window_s=day_s, dry_run=True, as_json=True)
    would = json.loads(capsys.readouterr().out)
    assert (would["dry_run"], would["compacted"][0]["made"], would["left"]) == (True, None, {})
    assert [one.name for one in made.repository.generations()] == [made.name]
    compact_(place, made.name, window_s=day_s)
    (left,) = made.repository.generations()
    told = capsys.readouterr().out
    last = moment_text(max(made.truth))
    assert f"{made.name} is now {left.name}: moments from {last} to {last}" in told, "all of it is older than a day"
    compact_(place, window_s=day_s)
    assert f"{left.name} stays as it is: it has few segments already" in capsys.readouterr().out
    with pytest.raises(Refused, match="one of them"):
        compact_(place, before="2026-11-22T21:00:00Z", window_s=day_s)


def test_the_command_names_what_it_leaves_alone(tmp_path: Path) -> None:
    place = tmp_path / "empty"
    Repository.create(LocalBlobs(place))
    words = [sys.executable, "-m", "cachekeep", "backup", "compact", str(place), "--window", "12h"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, "No backup here was followed: there is nothing to compact\n")
