"""Defects of the seed's scripts that concern a backup as a whole; those of one part are tests named so beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from copying import contents, copied

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.contents import open_generation
from cachekeep.backup.restore import RestoreOptions, restore
from cachekeep.backup.survey import survey
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket


def restored(repository: Repository, name: str, url: str, catalogue: MachineCatalogue, **options: Any) -> None:
    target = open_remote(url)
    with open_generation(repository, name, LocalScratch(catalogue, open_socket)) as held:
        assert restore(held, target, survey(target), RestoreOptions(**options)).complete


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_seed_defect_02_deletions_renames_expiries_and_flushes_are_in_the_next_backup(
    start_server: Callable[..., Any], catalogue: MachineCatalogue, tmp_path: Path
) -> None:
    source, target = start_server(), start_server()
    for name in ("stays", "goes", "old name", "expires"):
        source.ask("SET", name, name)
    copied(source.url, tmp_path / "place")
    source.ask("DEL", "goes")
    source.ask("RENAME", "old name", "new name")
    source.ask("PEXPIREAT", "expires", 1)
    report, repository = copied(source.url, tmp_path / "place")
    restored(repository, report.generation, target.url, catalogue)
    assert sorted(target.ask("KEYS", "*")) == [b"new name", b"stays"]


def test_seed_defect_04_and_06_nothing_that_was_written_is_written_again(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    source = start_server()
    for number in range(1000):
        source.ask("SET", f"idle:{number}", number)
        source.ask("EXPIRE", f"idle:{number}", 10_000 + number)
    copied(source.url, tmp_path / "place")
    before = files_of(tmp_path / "place")
    report, repository = copied(source.url, tmp_path / "place")
    after = files_of(tmp_path / "place")
    assert {name: after[name] for name in before} == before
    assert [one.status for one in repository.generations()] == [Status.COMPLETE] * 2
    assert report.keys == {0: 1000}


def test_seed_defect_05_a_smaller_backup_has_nothing_of_a_larger_one(
    start_server: Callable[..., Any], catalogue: MachineCatalogue, tmp_path: Path
) -> None:
    source, target = start_server(), start_server()
    source.ask("EVAL", "for i = 1, 6000 do redis.call('SET', 'key:' .. i, i) end", 0)
    copied(source.url, tmp_path / "place")
    source.ask("FLUSHDB")
    source.ask("SET", "only", 1)
    report, repository = copied(source.url, tmp_path / "place")
    restored(repository, report.generation, target.url, catalogue)
    assert target.ask("KEYS", "*") == [b"only"]


def test_seed_defect_17_a_list_that_grows_at_its_head_is_copied_as_it_was_at_one_moment(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path
) -> None:
    source, scratch = start_server(), start_server()
    writer = client(source)
    writer.rpush("list", *range(30_000, 0, -1))
    pushed = 30_000

    def push(_: object) -> None:
        nonlocal pushed
        pushed += 1
        writer.lpush("list", pushed)

    for number in range(500):
        writer.set(f"key:{number}", number)
    report, repository = copied(source.url, tmp_path / "place", progress=push, count=10)
    payload, _ = contents(repository, report.generation)[0, b"list"]
    reader = client(scratch)
    reader.execute_command("RESTORE", "list", 0, payload)
    elements = [int(one) for one in reader.lrange("list", 0, -1)]
    assert pushed > 30_000
    assert elements == list(range(len(elements), 0, -1)), "every element once, none torn off"


def test_seed_defect_18_a_key_that_expires_while_it_is_read_is_never_an_empty_string(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path
) -> None:
    source = start_server()
    writer = client(source)
    for number in range(3000):
        writer.set(f"key:{number}", "never empty", px=1 + number % 400)
    report, repository = copied(source.url, tmp_path / "place", count=10)
    writer.set("sample", "never empty")
    payload = writer.dump("sample")
    assert {one for one, _ in contents(repository, report.generation).values()} <= {payload}
