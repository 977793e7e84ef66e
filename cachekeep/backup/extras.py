"""Keys that an endpoint has and the backup has not: found, told, and removed where that is wished.

Called by restore (`delete_extra`), verify and diff, after everything in the backup was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cachekeep.backup.ledger import Ledger
from cachekeep.backup.routing import REDIRECTIONS, Place, Routes
from cachekeep.codec.info import parse_info
from cachekeep.codec.resp import pack, pack_all
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault, understood

_SCAN_COUNT = 1000


def databases_at(routes: Routes) -> list[int]:
    """Those that have keys now. Raises RemoteError."""
    found = set[int]()
    for place in routes.places():
        text = routes.side(place, 0).ask("INFO", "keyspace")
        for line in text.decode("utf-8", "replace").splitlines():
            if line.startswith("db") and ":" in line:
                found.add(int(line[2 : line.index(":")]))
    return sorted(found)


class Vitals(NamedTuple):
    """Of one node: which process it is, and how many keys it has evicted since it began; None: not known."""

    run_id: str
    evicted: int | None


def processes_at(routes: Routes) -> dict[Place, Vitals]:
    """Of every node that has keys now. Raises RemoteError."""
    routes.refresh()
    found = {}
    for place in routes.places():
        with routes.connect(place, 0) as connection, understood(connection.address):
            info = parse_info(connection.ask("INFO").decode("utf-8", "replace"))
            found[place] = Vitals(info.get("run_id", ""), int(info.get("evicted_keys", 0)))
    return found


def extras(routes: Routes, db: int, ledger: Ledger | None, match: bytes | None) -> Iterator[tuple[Place, list[bytes]]]:
    """Keys of a database that the ledger does not know, in portions; a key may come twice. Raises RemoteError."""
    for place in routes.places():
        with routes.connect(place, db) as connection:
            for keys in _scan(connection, match):
                known = ledger.knows(keys) if ledger else [False] * len(keys)
                if unknown := [key for key, is_known in zip(keys, known, strict=True) if not is_known]:
                    yield place, unknown


def delete(routes: Routes, place: Place, db: int, keys: list[bytes]) -> int:
    """Remove them; how many there were. Raises RemoteError, Refusal."""
    connection = routes.side(place, db)
    if not routes.cluster:
        return int(connection.ask("UNLINK", *keys))
    connection.send(pack_all(("UNLINK", key) for key in keys))
    replies, gone = connection.receive(len(keys)), 0
    for key, reply in zip(keys, replies, strict=True):
        if isinstance(reply, Refusal):
            if reply.code not in REDIRECTIONS:
                raise reply
            reply = routes.converse(key, db, lambda talk, key=key: talk.connection.ask("UNLINK", key))  # type: ignore[misc]
        gone += int(reply)
    return gone


def present(routes: Routes, place: Place, db: int, keys: list[bytes]) -> list[bytes]:
    """Those that are (still) there, each once."""
    distinct = list(dict.fromkeys(keys))
    connection = routes.side(place, db)
    connection.send(pack_all(("EXISTS", key) for key in distinct))
    return [key for key, reply in zip(distinct, connection.receive(len(distinct)), strict=True) if reply == 1]


def _scan(connection: Connection, match: bytes | None) -> Iterator[list[bytes]]:
    """Keys as SCAN gives them, one exchange ahead."""
    words = ("COUNT", _SCAN_COUNT) if match is None else ("COUNT", _SCAN_COUNT, "MATCH", match)
    connection.send(pack("SCAN", "0", *words))
    while True:
        reply = connection.receive(1)[0]
        if isinstance(reply, Refusal):
            raise RemoteError(RemoteFault.DENIED, f"{connection.address} refuses SCAN: {reply}", "allow the user SCAN")
        cursor, keys = reply
        if cursor != b"0":
            connection.send(pack("SCAN", cursor, *words))
        if keys:
            yield keys
        if cursor == b"0":
            return
