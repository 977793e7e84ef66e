"""What the tests of copies share: a copy of a server, what it holds, and data of every kind to copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachekeep.backup.catalog import Repository
from cachekeep.backup.copy import CopyOptions, CopyReport, copy
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey import survey
from cachekeep.blob.local import LocalBlobs
from cachekeep.codec.dump import canonical, decode
from cachekeep.codec.record import Kind
from cachekeep.remote.open import open_remote

Contents = dict[tuple[int, bytes], tuple[bytes, int]]
FAR_MS = 4_102_444_800_000


def copied(
    url: str, folder: Path, *, scratch: Any = None, progress: Any = None, stop: Any = None, **options: Any
) -> tuple[CopyReport, Repository]:
    """A copy by SCAN unless `source` is given: its report and its repository."""
    remote = open_remote(url)
    repository = Repository.open_or_create(LocalBlobs(folder))
    wanted = CopyOptions(**{"source": "scan", "patience_s": 20, **options})
    heard = {"progress": progress} if progress else {}
    report = copy(remote, survey(remote), repository, wanted, scratch=scratch, stop=stop, **heard)
    return report, repository


def contents(repository: Repository, name: str, *, unfinished: bool = False) -> Contents:
    """The truth of a generation: per database and key the payload and the expiry."""
    held: Contents = {}
    reader = GenerationReader.open(repository, name, unfinished=unfinished)
    for record in reader.records(("base", "changes")):
        if record.kind == Kind.FLUSHED:
            held = {place: one for place, one in held.items() if place[0] != record.db}
        elif record.kind == Kind.TOMBSTONE:
            held.pop((record.db, record.key), None)
        else:
            held[record.db, record.key] = record.payload, record.expires_ms
    return held


def logged(repository: Repository, report: CopyReport, event: str) -> list[dict[str, Any]]:
    lines = GenerationReader.open(repository, report.generation).log_lines()
    return [line for line in lines if line["event"] == event]


def fill_everything(client: Any, version: str) -> None:
    """Every type in every encoding, names of all bytes, the empty name, expiries."""
    number = tuple(map(int, version.split(".")))
    pipe = client.pipeline(transaction=False)
    pipe.set(b"", b"the empty name")
    pipe.set(bytes(range(256)), bytes(range(256)) * 40, pxat=FAR_MS) if number >= (6, 2) else None
    for name, value in (("int", 12345), ("embstr", "x" * 40), ("raw", "y" * 500), ("empty", "")):
        pipe.set(f"string:{name}", value)
    for size in (3, 700):
        items = [f"item {at} {'z' * (at % 90)}" for at in range(size)]
        pipe.rpush(f"list:{size}", *items)
        pipe.sadd(f"set:{size}", *items)
        pipe.sadd(f"intset:{size}", *range(size))
        pipe.zadd(f"zset:{size}", {item: at * 1.1 for at, item in enumerate(items)})
        pipe.hset(f"hash:{size}", mapping={item: item * 2 for item in items})
    pipe.zadd("zset:inf", {"low": float("-inf"), "high": float("inf"), "third": 1 / 3})
    pipe.pfadd("hll", *range(2000))
    pipe.setbit("bits", 5000, 1)
    for at in range(150):
        pipe.xadd("stream", {"field": at, b"\xff\0": b"\r\n"}, id=f"{at + 1}-1")
    pipe.xdel("stream", "150-1")
    pipe.xgroup_create("stream", "group", 0)
    pipe.xreadgroup("group", "consumer", {"stream": ">"}, count=20)
    for at in range(200):
        pipe.set(f"expiring:{at}", at, pxat=FAR_MS + at)
    if number >= (9, 0):
        pipe.hset("hash:fields", mapping={"stays": 1, "goes": 2})
        pipe.execute_command("HPEXPIREAT", "hash:fields", FAR_MS, "FIELDS", 1, "goes")
    pipe.execute()


def alike(one: bytes, other: bytes) -> bool:
    """Whether two payloads mean the same: while a server rehashes a collection its bytes change."""
    return one == other or canonical(decode(one)) == canonical(decode(other))


def once(condition: Callable[[int], bool], act: Callable[[], Any]) -> Callable[[Any], None]:
    """For `progress`: acts a single time, as soon as so many keys were copied."""
    done = False

    def progress(seen: Any) -> None:
        nonlocal done
        if not done and condition(seen.keys):
            done = True
            act()

    return progress
