"""How often in a row a node's process ended too soon, and how long to wait before the next try."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachekeep.domain.nodes import NodeKey, Process

FIRST_HOLD_S = 0.1
LONGEST_HOLD_S = 30.0
FIRST_SWITCH_HOLD_S = 0.25
# A process that answered and lived so long has proved itself: its end begins a new count.
STABLE_S = 10.0


@dataclass
class _Tries:
    process: Process | None = None
    started_at: float = 0.0
    answered: bool = False
    failures: int = 0
    not_before: float = 0.0
    words: tuple[str, ...] = ()


class Attempts:
    """Kept in memory only: a service that starts anew tries anew. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_node: dict[NodeKey, _Tries] = {}
        self._switches: dict[NodeKey, tuple[int, float]] = {}

    def switched(self, successor: NodeKey, *, done: bool) -> None:
        """A role was to be handed to this node. After a failure it rests for a while, longer each time."""
        if done:
            self._switches.pop(successor, None)
            return
        failures = self._switches.get(successor, (0, 0.0))[0] + 1
        hold = min(FIRST_SWITCH_HOLD_S * 2 ** min(failures - 1, 16), LONGEST_HOLD_S)
        self._switches[successor] = failures, self._clock() + hold

    def switch_hold_s(self, successor: NodeKey) -> float:
        return max(0.0, self._switches.get(successor, (0, 0.0))[1] - self._clock())

    def started(self, key: NodeKey, process: Process) -> None:
        tries = self._by_node.setdefault(key, _Tries())
        tries.process, tries.started_at, tries.answered = process, self._clock(), False

    def answered(self, key: NodeKey) -> None:
        """The process serves."""
        tries = self._by_node.get(key)
        if tries is None:
            return
        tries.answered = True
        if tries.process is not None and self._clock() - tries.started_at >= STABLE_S:
            del self._by_node[key]

    def gone(self, key: NodeKey, words: Callable[[], tuple[str, ...]]) -> None:
        """No process runs. If the one that was started ended too soon, that was a failed try; words say why."""
        tries = self._by_node.get(key)
        if tries is None or tries.process is None:
            return
        if tries.answered and self._clock() - tries.started_at >= STABLE_S:
            del self._by_node[key]
        else:
            self.failed(key, words())

    def failed(self, key: NodeKey, words: tuple[str, ...]) -> None:
        """One more try came to nothing."""
        tries = self._by_node.setdefault(key, _Tries())
        tries.process = None
        tries.failures += 1
        tries.words = words
        hold = min(FIRST_HOLD_S * 2 ** min(tries.failures - 1, 16), LONGEST_HOLD_S)
        tries.not_before = self._clock() + hold

    def failures(self, key: NodeKey) -> int:
        tries = self._by_node.get(key)
        return tries.failures if tries else 0

    def words(self, key: NodeKey) -> tuple[str, ...]:
        tries = self._by_node.get(key)
        return tries.words if tries else ()

    def hold_s(self, key: NodeKey) -> float:
        tries = self._by_node.get(key)
        return max(0.0, tries.not_before - self._clock()) if tries else 0.0

    def forget(self, key: NodeKey) -> None:
        """Begin anew: the process was ended on purpose."""
        self._by_node.pop(key, None)
        self._switches.pop(key, None)
