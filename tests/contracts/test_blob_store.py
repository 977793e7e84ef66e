"""What every store of objects promises, whatever it is made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo

if TYPE_CHECKING:
    from cachekeep.domain.blobs import BlobStore

MIB = 1 << 20


def fault_of(call: object, *args: object, **options: object) -> BlobFault:
    assert callable(call)
    with pytest.raises(BlobError) as caught:
        call(*args, **options)
    return caught.value.fault


@pytest.mark.parametrize(
    "name", ["a", "a/b", "deep/er/and/deeper/x.json", "20261122T210000.123Z-9f3c2e71/00000001.seg"]
)
def test_what_was_put_is_read(blobs: BlobStore, name: str) -> None:
    blobs.put(name, b"\0bytes\xff")
    assert blobs.get(name) == b"\0bytes\xff" == b"".join(blobs.open(name))
    assert blobs.exists(name)
    assert blobs.list() == [BlobInfo(name, 7)]


@pytest.mark.parametrize("data", [b"", [], [b""], [b"", b"x", b""]])
def test_objects_may_be_empty_or_nearly(blobs: BlobStore, data: bytes | list[bytes]) -> None:
    blobs.put("a", data)
    want = data if isinstance(data, bytes) else b"".join(data)
    assert blobs.get("a") == want == b"".join(blobs.open("a"))
    assert blobs.list() == [BlobInfo("a", len(want))]


def test_a_big_object_comes_back_in_parts(blobs: BlobStore) -> None:
    parts = [bytes([number]) * (MIB + number) for number in range(20)]
    blobs.put("big/one", iter(parts))
    chunks = list(blobs.open("big/one"))
    assert b"".join(chunks) == b"".join(parts)
    assert blobs.list("big") == [BlobInfo("big/one", sum(map(len, parts)))]


def test_an_object_is_replaced_whole(blobs: BlobStore) -> None:
    blobs.put("a", b"the older and longer one")
    blobs.put("a", iter([b"new", b"er"]))
    assert blobs.get("a") == b"newer"


def test_nobody_meets_half_an_object(blobs: BlobStore) -> None:
    blobs.put("folder/old", b"whole")
    seen: list[object] = []

    def parts() -> Iterator[bytes]:
        for _ in range(12):
            yield b"x" * MIB
            seen.append((blobs.exists("folder/new"), blobs.get("folder/old"), blobs.list("folder")))

    blobs.put("folder/new", parts())
    assert seen == [(False, b"whole", [BlobInfo("folder/old", 5)])] * 12
    blobs.put("folder/old", parts())
    assert {found[1] for found in seen[12:] if isinstance(found, tuple)} == {b"whole"}
    assert len(blobs.get("folder/old")) == 12 * MIB


class OurOwn(Exception):
    pass


@pytest.mark.parametrize("mib", [0, 1, 20])
def test_parts_that_break_off_leave_nothing(blobs: BlobStore, mib: int) -> None:
    blobs.put("old", b"old")

    def parts() -> Iterator[bytes]:
        for _ in range(mib):
            yield b"x" * MIB
        raise OurOwn("no more")

    for name in ("new", "old"):
        with pytest.raises(OurOwn, match="no more"):
            blobs.put(name, parts())
    assert blobs.list() == [BlobInfo("old", 3)]
    assert blobs.get("old") == b"old"


def test_new_refuses_a_name_that_is_taken(blobs: BlobStore) -> None:
    blobs.put("a/b", b"first", new=True)
    assert fault_of(blobs.put, "a/b", b"second", new=True) is BlobFault.EXISTS
    assert fault_of(blobs.put, "a/b", [b"sec", b"ond"], new=True) is BlobFault.EXISTS
    assert blobs.get("a/b") == b"first"


def test_of_many_that_make_the_same_object_one_wins(blobs: BlobStore) -> None:
    start = threading.Barrier(6)
    outcomes: list[tuple[int, BlobFault | None]] = []

    def make(number: int) -> None:
        start.wait()
        try:
            blobs.put("one", b"%d" % number, new=True)
        except BlobError as error:
            outcomes.append((number, error.fault))
        else:
            outcomes.append((number, None))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [number for number, fault in outcomes if fault is None]
    assert sorted(str(fault) for _, fault in outcomes) == ["BlobFault.EXISTS"] * 5 + ["None"]
    assert [b"%d" % number for number in won] == [blobs.get("one")]


def test_a_listing_is_sorted_and_knows_folders(blobs: BlobStore) -> None:
    names = ["b/2", "b/10", "b/1", "a", "b-c", "bb/1", "b/c/d", "z"]
    for name in names:
        blobs.put(name, name.encode())
    assert [info.name for info in blobs.list()] == sorted(names)
    assert [info.name for info in blobs.list("b")] == ["b/1", "b/10", "b/2", "b/c/d"]
    assert blobs.list("b/c") == [BlobInfo("b/c/d", 5)]
    assert blobs.list("nothing/here") == []


def test_nothing_is_listed_before_the_first_put(blobs: BlobStore) -> None:
    assert blobs.list() == []
    assert not blobs.exists("a")


def test_more_objects_than_a_page(blobs: BlobStore) -> None:
    names = [f"n/{number:04d}" for number in range(130)]
    for name in names:
        blobs.put(name, b"x")
    assert [info.name for info in blobs.list("n")] == names


def test_what_is_missing_is_called_missing(blobs: BlobStore) -> None:
    blobs.put("a/b", b"x")
    for name in ("c", "a/c", "a/b/c"):
        assert fault_of(blobs.get, name) is BlobFault.MISSING
        assert fault_of(blobs.open, name) is BlobFault.MISSING
        assert not blobs.exists(name)


def test_deleting_twice_is_deleting(blobs: BlobStore) -> None:
    blobs.put("a/b", b"x")
    blobs.put("a/c", b"y")
    blobs.delete("a/b")
    blobs.delete("a/b")
    blobs.delete("never/was")
    assert blobs.list() == [BlobInfo("a/c", 1)]
    blobs.put("a/b", b"again")
    assert blobs.get("a/b") == b"again"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "a/../b", ".hidden", "a/.b", "a b", "ä", "a\n"])
def test_a_name_that_means_another_place_is_refused(blobs: BlobStore, name: str) -> None:
    for call in (blobs.get, blobs.open, blobs.delete, blobs.exists):
        with pytest.raises(ValueError, match="not a name"):
            call(name)
    with pytest.raises(ValueError, match="not a name"):
        blobs.put(name, b"x")


def test_an_error_says_what_where_and_what_to_do(blobs: BlobStore) -> None:
    with pytest.raises(BlobError, match=r"gone/away.*; \w+") as caught:
        blobs.get("gone/away")
    assert "\n" not in str(caught.value)


def test_an_object_is_copied_within_its_store_and_reads_go_on_beside_puts(blobs: BlobStore) -> None:
    blobs.put("from", iter([bytes([number]) * MIB for number in range(10)]))
    failures: list[BaseException] = []

    def copy(number: int) -> None:
        try:
            blobs.put(f"to/{number}", blobs.open("from"))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert {blobs.get(f"to/{number}") for number in range(3)} == {blobs.get("from")}
