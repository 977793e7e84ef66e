"""One lane of a copy: every database of one node, by scanning, through losses of the node. Called by backup.copy.

A cursor is of use only while the process lives that gave it: after a restart of the source the scan begins anew.
"""

from __future__ import annotations

from cachekeep.backup.copy_run import NodeLeft, Run, run_id, take, wanted_databases
from cachekeep.backup.copy_segments import Segments
from cachekeep.backup.interruptions import Patience
from cachekeep.backup.scan import scan_batches
from cachekeep.backup.survey_types import Node
from cachekeep.domain.remote import Connection, RemoteError


def copy_lane(run: Run, node: Node) -> None:
    """All databases of the node, those that appear meanwhile too. Raises RemoteError, Halted, BlobError."""
    patience = Patience(node.lane, run.options.patience_s, run.halt, run.journal)
    done: set[int] = set()
    lane = _Lane(run, node, patience)
    try:
        while todo := sorted(lane.databases() - done):
            for db in todo:
                lane.copy(db)
                done.add(db)
    except NodeLeft:
        run.journal.event("node-left", lane=node.lane)
    finally:
        run.journal.flush()


class _Lane:
    def __init__(self, run: Run, node: Node, patience: Patience) -> None:
        self._run, self._node, self._patience = run, node, patience
        self._run_id = node.run_id

    def databases(self) -> set[int]:
        """Those that have keys now, as far as they are wanted."""
        while True:
            try:
                with self._run.connect(self._node) as connection:
                    return wanted_databases(connection, self._run)
            except RemoteError as error:
                self._reconnected(error, 0).close()

    def copy(self, db: int) -> None:
        run, point = self._run, self._run.resume_points.get((self._node.lane, db))
        if point and point.complete:
            return
        connection: Connection | None = None
        with Segments(run, "base", self._node.lane, db, point.cursor if point else "0") as segments:
            while True:
                try:
                    connection = connection or run.connect(self._node, db)
                    with connection:
                        self._scan(connection, db, segments)
                    segments.close("0")
                    return
                except RemoteError as error:
                    connection = self._reconnected(error, db)
                    if not self._same_process(connection):
                        segments.anew()

    def _scan(self, connection: Connection, db: int, segments: Segments) -> None:
        run = self._run
        batches = scan_batches(
            connection,
            run.survey,
            db=db,
            cursor=segments.cursor,
            match=run.options.match,
            count=run.options.count,
            before_read=run.pace.take,
            on_note=run.journal.note,
        )
        for batch in batches:
            moved = take(run, db, batch)
            segments.add(batch.records, batch.cursor)
            self._patience.progressed()
            run.halt.check()
            if moved and run.left(self._node):
                raise NodeLeft

    def _reconnected(self, error: RemoteError, db: int) -> Connection:
        def connect() -> Connection:
            try:
                return self._run.connect(self._node, db)
            except RemoteError:
                if self._run.left(self._node):
                    raise NodeLeft from None
                raise

        return self._patience.outlast(error, connect)

    def _same_process(self, connection: Connection) -> bool:
        """True when the cursor still means something. Keeps the new run_id."""
        try:
            now = run_id(connection)
        except RemoteError:
            return True  # nobody knows: it is lost again, the next command shows that, and then it is asked again
        same = bool(now) and now == self._run_id
        self._run_id = now
        return same
