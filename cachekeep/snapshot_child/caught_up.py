"""Waits until a replica that is to be read has what its primary had: a snapshot holds every write that was
acknowledged before it was asked for. Called by `copying`.

A primary keeps the stream back from a replica that has just synchronised until that has said so, up to a second, though
the link is up by then; and a busy one is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cachekeep.codec.info import parse_info
from cachekeep.domain.remote import Connection, Remote, RemoteError, understood
from cachekeep.domain.snapshot_work import WorkFailed

PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.02
# A primary that does not even say how far it is holds nobody up: it is being replaced.
_ANSWER_S = 5.0


def offset_of(primary: Remote) -> int | None:
    """How far the primary's stream is now, in bytes; None for one that is none, or does not answer."""
    try:
        with primary.connect(timeout_s=_ANSWER_S) as connection:
            found = _replication(connection)
    except RemoteError:
        return None
    return int(found["master_repl_offset"]) if found.get("role") == "master" else None


def await_offset(replica: Remote, offset: int, wait: Callable[[float], None]) -> None:
    """Return when the replica has so many bytes of the stream, or is the primary by now.

    wait: so many seconds; raises what ends the copy. Raises RemoteError; WorkFailed when it does not get there.
    """
    with replica.connect(timeout_s=_ANSWER_S) as connection:
        for _ in range(int(PATIENCE_S / _LOOK_EVERY_S)):
            found = _replication(connection)
            if found.get("role") == "master" or int(found.get("slave_repl_offset", -1)) >= offset:
                return
            wait(_LOOK_EVERY_S)
    what = f"the replica at {replica.address} has not got in {PATIENCE_S:g} s what its primary had"
    raise WorkFailed(what, again=True)


def _replication(connection: Connection) -> Mapping[str, str]:
    with understood(connection.address):
        return parse_info(connection.ask("INFO", "replication").decode())
