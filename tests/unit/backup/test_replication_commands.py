"""Whole commands of a stream that was cut anywhere, held against a framer that sees one command at a time."""

from __future__ import annotations

import random

import pytest
from followed_backup import START, Part, piece, write
from small_backup import LANE

from cachekeep.backup.absolute_expiries import with_absolute_expiry
from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.replication_commands import timed_commands, timed_pieces, whole_commands
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.resp import pack

Words = tuple[str | bytes, ...]
FOR_REPLICAS = ("PING", "REPLCONF", "CLUSTER", "PUBLISH", "SPUBLISH")


def plain(commands: list[Words]) -> bytes:
    """The same, one command at a time."""
    found, transaction = list[bytes](), None
    for words in commands:
        name = str(words[0]).upper()
        if name in FOR_REPLICAS:
            continue
        if name == "MULTI":
            transaction = list[bytes]()
        into = found if transaction is None else transaction
        into.append(pack(*words))
        if name == "EXEC" and transaction is not None:
            found += transaction
            transaction = None
    return b"".join(found)


def some_commands(draw: random.Random) -> list[Words]:
    commands: list[Words] = []
    for _ in range(draw.randint(0, 12)):
        match draw.randint(0, 4):
            case 0:
                commands.append((draw.choice(["PING", "ping", "SELECT"]), "0"))
            case 1:
                commands.append((draw.choice(["publish", "SPUBLISH", "CLUSTER", "REPLCONF"]), "a", "b\r\n*3\r\n$4"))
            case 2:
                inside: list[Words] = [("SET", "k", "\r\n$3" * draw.randint(0, 9))] * draw.randint(0, 3)
                commands += [("MULTI",), *inside, *[("PING",)] * draw.randint(0, 1), ("EXEC",)]
            case _:
                commands.append(("SET", "k", b"\xff\r\n" * draw.randint(0, 40)))
    return commands


@pytest.mark.parametrize("seed", range(300))
def test_what_is_whole_is_given_wherever_the_stream_was_cut(seed: int) -> None:
    draw = random.Random(seed)
    commands = some_commands(draw)
    kept = draw.randint(0, len(commands))
    half = b"".join(pack(*words) for words in commands[kept : kept + 1])
    stream = b"".join(pack(*words) for words in commands[:kept]) + half[: draw.randint(0, max(0, len(half) - 1))]
    cuts = sorted(draw.randint(0, len(stream)) for _ in range(draw.randint(0, 30)))
    pieces = [stream[first:last] for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert b"".join(whole_commands((at, piece) for at, piece in enumerate(pieces))) == plain(commands[:kept])


def test_a_command_counts_from_the_moment_of_its_last_byte() -> None:
    one, two = pack("SET", "a", 1), pack("SET", "b", 2)
    pieces = [(10, one[:5]), (20, one[5:] + two[:3]), (30, two[3:])]
    assert [b"".join(whole_commands(pieces, moment)) for moment in (9, 19, 20, 29, 30)] == [
        b"",
        b"",
        one,
        one,
        one + two,
    ]
    assert list(timed_commands(pieces)) == [(20, one), (30, two)]


def test_a_transaction_comes_whole_or_not_at_all() -> None:
    begun, ended = pack("MULTI") + pack("SET", "a", 1), pack("EXEC")
    pieces = [(10, begun), (20, pack("PING")), (30, ended), (40, pack("SET", "b", 1))]
    assert list(whole_commands(pieces, 29)) == []
    assert b"".join(whole_commands(pieces, 30)) == begun + ended
    assert b"".join(whole_commands(pieces)) == begun + ended + pack("SET", "b", 1)


@pytest.mark.parametrize(
    "bad", [b"+OK\r\n", b"*1\r\n+PING\r\n", b"*x\r\n", b"*1\r\n$-5\r\n", b"*" + b"1" * 50, b"\0" * 40]
)
def test_bytes_that_are_no_command_are_refused(bad: bytes) -> None:
    with pytest.raises(CatalogError, match="no command"):
        list(whole_commands([(0, pack("SET", "a", 1)), (0, bad)]))


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (("EXPIRE", "k", "5"), ("PEXPIREAT", "k", "6000")),
        (("pexpire", "k", "5"), ("PEXPIREAT", "k", "1005")),
        (("SETEX", "k", "5", "v"), ("SET", "k", "v", "PXAT", "6000")),
        (("PSETEX", "k", "5", "v"), ("SET", "k", "v", "PXAT", "1005")),
        (("SET", "k", "v", "KEEPTTL"), ("SET", "k", "v", "KEEPTTL")),
        (("SET", "px", "ex"), ("SET", "px", "ex")),
        (("SET", "k", "ex", "px", "5", "NX"), ("SET", "k", "ex", "PXAT", "1005", "NX")),
        (("SET", "k", "v", "PXAT", "5"), ("SET", "k", "v", "PXAT", "5")),
        (("GETEX", "k", "EX", "5"), ("GETEX", "k", "PXAT", "6000")),
        (("RESTORE", "k", "0", "x"), ("RESTORE", "k", "0", "x")),
        (("RESTORE", "k", "5", "x", "REPLACE"), ("RESTORE", "k", "1005", "x", "REPLACE", "ABSTTL")),
        (("RESTORE", "k", "5", "x", "absttl"), ("RESTORE", "k", "5", "x", "absttl")),
        (("EXPIRE", "k", "x"), ("EXPIRE", "k", "x")),
        (("EXPIRE", "k"), ("EXPIRE", "k")),
        (("INCR", "k"), ("INCR", "k")),
    ],
)
def test_time_that_is_left_becomes_a_moment(told: Words, meant: Words) -> None:
    assert with_absolute_expiry(pack(*told), 1000) == pack(*meant)
    stream = pack("MULTI") + pack(*told) + pack("EXEC")
    assert b"".join(whole_commands([(500, stream[:20]), (1000, stream[20:])], relative=True)) == (
        pack("MULTI") + pack(*meant) + pack("EXEC")
    )
    assert b"".join(whole_commands([(1000, stream)])) == stream


STREAM = [
    Part("commands", (piece(b"one", START),), (START, START + 10)),
    Part("commands", (), (START + 10, START + 20)),
    Part("commands", (piece(b"two", START + 25),), (START + 20, START + 30)),
]


def spoilt(ends_with: str, number: int) -> tuple[GenerationReader, list[object]]:
    """The stream with damage in its n-th object of that kind, and what is told of it."""
    blobs = MemoryBlobs()
    repository = Repository.create(blobs)
    name = write(repository, STREAM, follow="psync")
    entry = GenerationReader.open(repository, name).chain.entries[number - 1]
    where = f"{name}/{entry.segment}.seg" if ends_with == ".seg" else f"{name}/{number:08d}.json"
    blobs.objects[where] = blobs.objects[where][:-3] + b"???"
    told: list[object] = []
    return GenerationReader.open(repository, name, on_damage=told.append), told


@pytest.mark.parametrize("kind", [".seg", ".json"])
@pytest.mark.parametrize("number", [2, 3])
def test_damage_behind_the_moment_does_not_matter(kind: str, number: int) -> None:
    reader, told = spoilt(kind, number)
    seen = len(told)
    assert list(timed_pieces(reader, LANE, START + 10)) == [(START, b"one")]
    assert len(told) == seen, "it was not even read"


def test_a_damaged_segment_without_records_has_lost_nothing() -> None:
    reader, told = spoilt(".seg", 2)
    assert (
        list(timed_pieces(reader, LANE, START + 25))
        == list(timed_pieces(reader, LANE))
        == [
            (START, b"one"),
            (START + 25, b"two"),
        ]
    )
    assert told == []


def test_damage_before_the_moment_is_refused() -> None:
    for kind, number, what in ((".seg", 1, "lost some of its bytes"), (".json", 2, "damaged")):
        reader, _ = spoilt(kind, number)
        with pytest.raises(CatalogError, match=what):
            list(timed_pieces(reader, LANE, START + 25))
