"""The segments of changes, one open at a time, so that their entries have one order. Called by follow.volume.

Records go to the open segment; `roll` closes it and opens the next, while a thread makes the closed one durable, in
order. Whoever adds waits only when two closed ones are still on their way.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachekeep.backup.catalog_objects import Entry
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.codec.record import Record

_CLOSING = 2


@dataclass
class Closing:
    """A segment on its way. covers: see Entry. seq: of the volume, when it was opened."""

    writer: SegmentWriter
    seq: int
    covers: tuple[int, int] | None


class Sink:
    """on_durable: called from its thread with what was closed and its entry, before the next is closed."""

    def __init__(
        self,
        generation: GenerationWriter,
        before_close: Callable[[], None],
        on_durable: Callable[[Closing, Entry], None],
    ) -> None:
        self._generation, self._before_close, self._on_durable = generation, before_close, on_durable
        self._open: SegmentWriter | None = None
        self._lane, self._seq, self.opened_at = "", 0, time.monotonic()
        self._closing: queue.Queue[Closing | None] = queue.Queue(_CLOSING)
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()

    @property
    def bytes(self) -> int:
        """Of the open segment."""
        return self._open.bytes if self._open else 0

    @property
    def lane(self) -> str | None:
        """Whose records the open segment has; None when it has none."""
        return self._lane if self._open else None

    def add(self, records: list[Record], lane: str, seq: int) -> None:
        """Raises what the store raised, of this or an earlier segment."""
        self._raise()
        if self._open is None:
            self._open = SegmentWriter(self._generation, "changes", lane)
            self._lane, self._seq = lane, seq
        self._open.add(records)

    def roll(self, covers: tuple[int, int] | None, seq: int) -> None:
        """Close the open segment, or an empty one that says what is covered. Raises as `add`."""
        self._raise()
        if self._open is None:
            if covers is None:
                return
            self._open, self._seq = SegmentWriter(self._generation, "changes", "all"), seq
        writer, self._open = self._open, None
        self.opened_at = time.monotonic()
        self._closing.put(Closing(writer, self._seq, covers))

    def settle(self) -> None:
        """Wait until all that was closed is durable. Raises as `add`."""
        self._closing.join()
        self._raise()

    def close(self) -> None:
        """End the thread; an open segment is dropped: `roll` and `settle` first."""
        if self._open is not None:
            self._open.abandon()
            self._open = None
        if self._thread.is_alive():
            self._closing.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        while (one := self._closing.get()) is not None:
            try:
                if self.failure is None:
                    self._before_close()
                    entry = one.writer.close(covers=one.covers)
                    self._on_durable(one, entry)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that adds
                self.failure = error
            finally:
                one.writer.abandon()
                self._closing.task_done()
        self._closing.task_done()
