"""A copy of chosen nodes, replicas too: one RDB stream of each, side by side. Called for snapshots.

By PSYNC, or the file that an engine of this machine writes itself, where that can be read: the bytes are the same.

Unlike `backup.copy` it does not find the nodes itself and knows no other way: whoever asks knows the cluster, and
keeps its slots where they are meanwhile. One that breaks off leaves nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cachekeep.backup.catalog import Repository
from cachekeep.backup.copy_begin import Source, begin
from cachekeep.backup.copy_run import Run, Tally, in_threads, keyspace
from cachekeep.backup.copy_segments import Segments
from cachekeep.backup.copy_types import CopyOptions, Stopped
from cachekeep.backup.interruptions import Journal, now_ms
from cachekeep.backup.own_file import own_file
from cachekeep.backup.pacing import Halt, Halted, Pace
from cachekeep.backup.progress import OnProgress, unheard
from cachekeep.backup.psync import PIECE_BYTES, rdb_pieces
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.codec.rdb_head import RdbHead, read_rdb_head
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import Connection, Remote

_Folders = tuple[Path, Mapping[str, int]]


@dataclass(frozen=True)
class CopiedLane:
    """One node's RDB stream. bytes: of the file. keys: in all databases where it has one only; None elsewhere.

    taken_ms: the moment that its snapshot was begun, by the source's clock.
    """

    lane: str
    head: RdbHead
    bytes: int
    keys: int | None
    databases: tuple[int, ...]
    taken_ms: int


def copy_nodes(
    remote: Remote,
    survey: Survey,
    nodes: Sequence[Node],
    repository: Repository,
    began: Callable[[str], None],
    *,
    folders: _Folders | None = None,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
) -> tuple[str, list[CopiedLane]]:
    """The generation's name, and its lanes in the order of nodes. survey: of any of the nodes.

    folders: below which the nodes have theirs, and the bytes of memory that each uses by its lane: for engines of this
    machine, whose own files are read where that can be. began: called with the name before anything is written. Raises
    Refusal, RemoteError, BlobError, Stopped: nothing is left of it then, unless the repository cannot even delete.
    """
    options, journal, halt = CopyOptions(source="psync", resume=False), Journal(), Halt(stop)
    generation, _ = begin(repository, Source(survey, tuple(nodes), None), options, "psync", journal, began)
    run = Run(remote, survey, options, generation, journal, halt, Pace(None, halt.wait), Tally(progress, None))
    found: dict[str, CopiedLane] = {}
    try:
        in_threads(run, [partial(_copy, run, node, folders, found) for node in nodes])
        journal.flush()
        generation.finish(keyspace={})
    except Halted:
        repository.remove(generation.name)
        raise Stopped(generation.name, resumable=False) from None
    except BaseException:
        repository.remove(generation.name)
        raise
    return generation.name, [found[node.lane] for node in nodes]


def _pieces(
    run: Run, connection: Connection, node: Node, folders: _Folders | None, begun: Callable[[], None]
) -> Iterator[bytes]:
    if folders is not None:
        pieces = own_file(connection, folders[0], folders[1][node.lane], run.halt.wait)
        if pieces is not None:
            begun()
            return pieces
    return rdb_pieces(connection, str(run.survey.target.version), begun)


def _copy(run: Run, node: Node, folders: _Folders | None, found: dict[str, CopiedLane]) -> None:
    taken_ms = size = 0
    first = b""

    def begun() -> None:
        nonlocal taken_ms
        taken_ms = now_ms() + run.survey.clock_ahead_ms

    with run.connect(node) as asking:
        before = set(keyspace(asking))
        with run.connect(node) as connection, Segments(run, "rdb", node.lane, None) as segments:
            for piece in _pieces(run, connection, node, folders, begun):
                first = (first + piece)[:PIECE_BYTES] if len(first) < PIECE_BYTES else first
                segments.add([Record(int(Kind.PIECE), 0, NO_EXPIRY, taken_ms, b"", piece)])
                segments.roll()
                size += len(piece)
                run.tally.add(None, 0, len(piece))
                run.halt.check()
            segments.close(None)
        databases = tuple(sorted(before | set(keyspace(asking))))
    head = read_rdb_head(first)
    only_one = databases in ((), (head.db,))
    keys = head.keys if only_one else None
    if head.db is None:
        keys = 0 if size <= PIECE_BYTES else None
    found[node.lane] = CopiedLane(node.lane, head, size, keys, databases, taken_ms)
