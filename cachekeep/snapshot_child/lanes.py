"""The RDB file of one lane of a generation, as a stream. Called by snapshot_child.files and snapshot_child.feed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.copy_types import Stopped
from cachekeep.backup.reader import GenerationReader
from cachekeep.codec.segment import SegmentError
from cachekeep.domain.snapshot_work import WorkFailed


def stream(repository: Repository, generation: str, lane: str, stop: threading.Event) -> Iterator[bytes]:
    """A lane's RDB file in pieces; proved as a whole when it has ended. Raises WorkFailed for damage, Stopped."""
    try:
        for piece in GenerationReader.open(repository, generation).stream("rdb", lane):
            if stop.is_set():
                raise Stopped(generation, resumable=False)
            yield piece
    except (CatalogError, SegmentError) as error:
        raise WorkFailed(f"its data is damaged or incomplete: {error}") from error
