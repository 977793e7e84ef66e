"""Iterate in one thread, consume in another.

obstore asks for the next part while its runtime drives the very thread that asks: an iterable that reads through
obstore itself (a copy from bucket to bucket) would break there. So obstore gets a thread of its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

_WAITING_PARTS = 2
_LOOK_EVERY_S = 0.2


class _BrokenOffError(Exception):
    """Tells the consumer that there will be no whole. Never leaves this module."""


def consume_elsewhere(parts: Iterable[bytes], consume: Callable[[Iterator[bytes]], object]) -> None:
    """Call consume(iterator of the parts) in a thread, iterate parts in this one; raise what either raises.

    Returns or raises when both have ended. At most two parts wait in between.
    """
    handed: queue.Queue[bytes | _BrokenOffError | None] = queue.Queue(_WAITING_PARTS)
    ended = threading.Event()
    failures: list[BaseException] = []

    def offered() -> Iterator[bytes]:
        while (part := handed.get()) is not None:
            if isinstance(part, _BrokenOffError):
                raise part
            yield part

    def work() -> None:
        try:
            consume(offered())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that called
            failures.append(error)
        finally:
            ended.set()

    def offer(part: bytes | _BrokenOffError | None) -> bool:
        while not ended.is_set():
            try:
                handed.put(part, timeout=_LOOK_EVERY_S)
            except queue.Full:
                continue
            return True
        return False

    thread = threading.Thread(target=work, name="blob-put", daemon=True)
    thread.start()
    try:
        for part in parts:
            if not offer(part):
                break
        offer(None)
    except BaseException:
        offer(_BrokenOffError())
        thread.join()
        raise
    thread.join()
    if failures:
        raise failures[0]
