"""A copy by PSYNC: every node's RDB stream, side by side, kept as it comes. Called by backup.copy.

An RDB stream cannot be gone on with where it broke off: the generation is dropped and another begun.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cachekeep.backup.catalog import Repository
from cachekeep.backup.copy_run import Run, in_threads
from cachekeep.backup.copy_segments import Segments
from cachekeep.backup.copy_types import Stopped
from cachekeep.backup.interruptions import Patience, now_ms
from cachekeep.backup.pacing import Halted
from cachekeep.backup.psync import rdb_pieces
from cachekeep.backup.survey_types import Node
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import RemoteError, RemoteFault

_ATTEMPTS = 3
_WAITING = "waiting for the source's snapshot"


class Torn(RemoteError):
    """The streams of a cluster's nodes do not make one copy: slots moved meanwhile."""


def copy_by_psync(
    begin: Callable[[], tuple[Run, tuple[Node, ...]]], still_valid: Callable[[], str | None], repository: Repository
) -> Run:
    """The run whose generation has all streams, to be finished.

    begin: a new generation and its nodes. still_valid: None, or why the streams do not belong together. Raises
    Refusal in the server's words; RemoteError, Stopped, BlobError: nothing is left of it then.
    """
    attempt, patience = 0, None
    while True:
        attempt += 1
        run, nodes = begin()
        patience = patience or Patience("psync", run.options.patience_s, run.halt, run.journal)
        run.tally.phase(_WAITING)
        try:
            in_threads(run, [partial(_copy_stream, run, node, patience) for node in nodes])
            if reason := still_valid():
                raise Torn(RemoteFault.UNREACHABLE, reason, "copy again when the reshard is done")
        except Halted:
            repository.remove(run.generation.name)
            raise Stopped(run.generation.name, resumable=False) from None
        except RemoteError as error:
            repository.remove(run.generation.name)
            if attempt >= _ATTEMPTS:
                raise
            _wait(run, nodes, patience, error)
        except BaseException:
            repository.remove(run.generation.name)
            raise
        else:
            return run


def _wait(run: Run, nodes: tuple[Node, ...], patience: Patience, error: RemoteError) -> None:
    def again() -> None:
        for node in nodes:
            run.connect(node).close()

    try:
        patience.outlast(error, again)
    except Halted:
        raise Stopped(run.generation.name, resumable=False) from None


def _copy_stream(run: Run, node: Node, patience: Patience) -> None:
    captured_ms = 0

    def begun() -> None:
        nonlocal captured_ms
        captured_ms = now_ms() + run.survey.clock_ahead_ms
        run.tally.phase("the source's RDB file")

    with run.connect(node) as connection, Segments(run, "rdb", node.lane, None) as segments:
        for piece in rdb_pieces(connection, str(run.survey.target.version), begun):
            segments.add([Record(int(Kind.PIECE), 0, NO_EXPIRY, captured_ms, b"", piece)])
            segments.roll()
            run.tally.add(None, 0, len(piece))
            patience.progressed()
            run.halt.check()
        segments.close(None)
