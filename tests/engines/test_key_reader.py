"""Payload and expiry of many keys in one exchange, by every way that servers and their users allow."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from copying import FAR_MS

from cachekeep.backup.key_reader import GONE, NO_EXPIRY, Batch, KeyReader
from cachekeep.backup.survey import survey
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.dump import StringValue, decode
from cachekeep.domain.remote import Refusal
from cachekeep.remote.open import open_remote

NAMES = [b"", b"forever", b"absent", bytes(range(256)), b"\r\n$3\r\n"]
WAYS = [
    ("9.1", "standalone", ()),
    ("9.1", "cluster", ()),
    ("7.0", "standalone", (Ability.TIME,)),
    ("7.0", "standalone", (Ability.WATCH,)),
    ("6.2", "standalone", ()),
    ("6.2", "cluster", ()),
    ("6.2", "standalone", (Ability.SCRIPTS,)),
    ("6.2", "cluster", (Ability.SCRIPTS, Ability.TIME)),
]


def way(server: Any, mode: Any, denied: tuple[Ability, ...], user: str = "") -> tuple[Any, Survey]:
    """A remote, and what it would look like to somebody who may do less."""
    remote = open_remote(server.url.replace("redis://", f"redis://{user}"))
    seen = survey(remote)
    return remote, replace(seen, mode=mode, denied={**seen.denied, **dict.fromkeys(denied, "denied by the test")})


def read(remote: Any, seen: Survey, names: list[bytes]) -> tuple[KeyReader, Batch]:
    with remote.connect() as connection:
        reader = KeyReader(connection, seen)
        connection.send(reader.request(names))
        return reader, reader.read(len(names))


@pytest.mark.parametrize(("version", "mode", "denied"), WAYS)
def test_payloads_and_expiries_come_in_the_order_of_the_keys(
    start_server: Any, client: Any, version: str, mode: str, denied: tuple[Ability, ...]
) -> None:
    server = start_server(version)
    filler = client(server)
    for at, name in enumerate(NAMES):
        if name != b"absent":
            filler.set(name, name + b"!", pxat=None if name == b"forever" else FAR_MS + at)
    reader, batch = read(*way(server, mode, denied), NAMES)
    assert batch.unread == []
    assert reader.exact == (Ability.SCRIPTS not in denied)
    expected = [None if name == b"absent" else filler.dump(name) for name in NAMES]
    assert batch.payloads == expected
    for at, (name, expires_ms) in enumerate(zip(NAMES, batch.expiries, strict=True)):
        if name in (b"absent", b"forever"):
            assert expires_ms == (GONE if name == b"absent" else NO_EXPIRY)
        elif reader.exact:
            assert expires_ms == FAR_MS + at
        else:
            assert abs(expires_ms - FAR_MS - at) < 2000
    now = filler.time()
    assert abs(batch.captured_ms - now[0] * 1000) < 20_000


@pytest.mark.parametrize(("version", "mode"), [("7.0", "standalone"), ("9.1", "cluster"), ("6.2", "standalone")])
def test_a_forbidden_key_takes_no_neighbour_with_it(start_server: Any, client: Any, version: str, mode: str) -> None:
    users = "user default on nopass ~* &* +@all\nuser copier on >secret ~open:* &* +@all\n"
    server = start_server(version, users=users)
    client(server).mset({"open:1": 1, "closed:1": 1, "open:2": 2})
    remote, seen = way(server, mode, (), "copier:secret@")
    names = [b"open:1", b"closed:1", b"open:2"]
    _, batch = read(remote, seen, names)
    assert isinstance(batch.payloads[1], Refusal)
    assert batch.payloads[1].code == "NOPERM"
    if batch.unread:
        assert batch.unread == [0, 2]
        _, batch = read(remote, seen, [b"open:1", b"open:2"])
        assert batch.unread == []
        assert [type(payload) for payload in batch.payloads] == [bytes, bytes]
    else:
        assert [type(payload) for payload in batch.payloads] == [bytes, Refusal, bytes]


def test_no_keys_need_no_exchange(start_server: Any) -> None:
    remote, seen = way(start_server("9.1"), "standalone", ())
    with remote.connect() as connection:
        reader = KeyReader(connection, seen)
        assert reader.request([]) == b""
        assert reader.read(0).payloads == []


@pytest.mark.parametrize(
    ("version", "mode"), [("9.1", "cluster"), ("6.2", "cluster"), ("6.2", "standalone"), ("7.0", "standalone")]
)
def test_what_a_writer_comes_between_is_told_and_never_torn(
    start_server: Any, client: Any, version: str, mode: str
) -> None:
    server = start_server(version)
    names = [b"pair:%d" % at for at in range(500)]

    def write(to: Any, turn: int) -> None:
        pipe = to.pipeline(transaction=False)
        for name in names:
            pipe.set(name, turn, pxat=FAR_MS + turn)
        pipe.execute()

    write(client(server), 0)
    over = threading.Event()

    def flip() -> None:
        own, turn = client(server), 0
        while not over.is_set():
            turn += 1
            write(own, turn)

    remote, seen = way(server, mode, ())
    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        with remote.connect() as connection:
            reader, turns, whole = KeyReader(connection, seen), set(), 0
            while len(turns) < 20:
                connection.send(reader.request(names))
                batch = reader.read(len(names))
                for at, payload in enumerate(batch.payloads):
                    if at in batch.unread:
                        assert payload is None
                        continue
                    assert isinstance(payload, bytes)
                    value = decode(payload)
                    assert isinstance(value, StringValue)
                    assert batch.expiries[at] - FAR_MS == int(value.data)
                    turns.add(int(value.data))
                    whole += 1
            assert whole > 500
    finally:
        over.set()
        flipping.join()


def test_a_hash_without_fields_is_nothing(start_server: Any, client: Any, wait_until: Any) -> None:
    """COPY makes such a one of a hash whose fields have expired; what DUMP gives of it loads nowhere."""
    server = start_server("9.1", "--enable-debug-command", "yes")
    server.ask("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    client(server).hset("hash", mapping={"field": "value"})
    server.ask("HPEXPIRE", "hash", 1, "FIELDS", 1, "field")
    wait_until(lambda: not client(server).hgetall("hash"), "its field has expired")
    server.ask("COPY", "hash", "copy")
    assert server.ask("EXISTS", "copy") == 1
    remote, seen = way(server, "standalone", ())
    _, batch = read(remote, seen, [b"copy", b"absent"])
    assert (batch.payloads, batch.expiries) == ([None, None], [GONE, GONE])
