"""A generation that another takes the place of: its gap is written down, and its verdict. Called by psync_follow."""

from __future__ import annotations

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.domain.blobs import BlobError
from cachekeep.follow.chapter import Chapter
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.types import FollowGap


class Leaving:
    """start_ms: the last moment that it covers, where a gap begins; None: there is none, the other one overlaps."""

    def __init__(self, chapter: Chapter, start_ms: int | None, reason: str) -> None:
        self._chapter, self._start_ms, self._reason = chapter, start_ms, reason
        self._noted = self._broken = False

    def finish(self, end_ms: int | None, monitor: Monitor) -> None:
        """end_ms: where the gap ends; None: it has not. After a BlobError to be called again. Raises CatalogError."""
        chapter = self._chapter
        try:
            if self._broken:
                chapter.revive()
            if self._start_ms is not None and not self._noted:
                # The other one may have another clock.
                end_ms = None if end_ms is None else max(end_ms, self._start_ms)
                gap = FollowGap(self._start_ms, end_ms, self._reason)
                chapter.gap(gap)
                monitor.gap(gap)
                self._noted = True
            chapter.finish(whole=True)
        except BlobError:
            self._broken = True
            raise
        except CatalogError as error:
            # Its end was written by the attempt before, whose answer was lost.
            if not (self._broken and error.fault is CatalogFault.STATE):
                raise
