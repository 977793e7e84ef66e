"""Rounds: a look at what is wanted, at once when woken and else after a while; and the tasks that looks have begun.

For services that are level-triggered: what is wanted stands in the store, and a look begins what is not under way. It
knows nothing of what it looks at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, KeysView
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Rounds(Generic[Key]):
    """every_s: so long after a look comes the next one, if nobody wakes it. Each task has a key; no two have the same.

    For one thread: that of the loop.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._wake = asyncio.Event()
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def run(self, look: Callable[[], None]) -> None:
        """Until cancelled, or until a look raises: then its tasks are cancelled, and have ended when this has."""
        try:
            while True:
                self._wake.clear()
                self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
                look()
                await woken(self._wake, self._every_s)
        finally:
            running = list(self._tasks.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._tasks.clear()

    def wake(self) -> None:
        """Look as soon as possible; what happens during a look asks for another one."""
        self._wake.set()

    def under_way(self) -> KeysView[Key]:
        """The keys of the tasks that had not ended when the look began, and of those begun since, in order."""
        return self._tasks.keys()

    def begin(self, key: Key, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Begin it, unless the task of this key is under way."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(work(), name=name)

    def cancel(self, key: Key) -> None:
        """Ask the task of this key to end, once: it may be ending what it began. It is under way until it has ended.

        Raises KeyError where there is none.
        """
        if not self._tasks[key].cancelling():
            self._tasks[key].cancel()


async def woken(wake: asyncio.Event, within_s: float) -> bool:
    """Wait, but no longer than this: whether it was woken."""
    try:
        async with asyncio.timeout(within_s):
            await wake.wait()
    except TimeoutError:
        return False
    return True
