"""How often in a row a node's process ended before it answered, and how long to wait before the next try."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cachekeep.domain.nodes import NodeKey, Process

FIRST_HOLD_S = 0.1
LONGEST_HOLD_S = 30.0


@dataclass
class _Tries:
    process: Process | None = None
    failures: int = 0
    not_before: float = 0.0
    words: tuple[str, ...] = ()


@dataclass
class Attempts:
    """Kept in memory only: a service that starts anew tries anew. Times are of the monotonic clock."""

    _by_node: dict[NodeKey, _Tries] = field(default_factory=dict)

    def started(self, key: NodeKey, process: Process) -> None:
        self._of(key).process = process

    def answered(self, key: NodeKey) -> None:
        self._by_node.pop(key, None)

    def failed(self, key: NodeKey, words: tuple[str, ...]) -> None:
        """One more try came to nothing; words say why."""
        tries = self._of(key)
        tries.process = None
        tries.failures += 1
        tries.words = words
        hold = min(FIRST_HOLD_S * 2 ** min(tries.failures - 1, 16), LONGEST_HOLD_S)
        tries.not_before = time.monotonic() + hold

    def unproved(self, key: NodeKey) -> bool:
        """A process was started and has not answered yet."""
        tries = self._by_node.get(key)
        return tries is not None and tries.process is not None

    def failures(self, key: NodeKey) -> int:
        tries = self._by_node.get(key)
        return tries.failures if tries else 0

    def words(self, key: NodeKey) -> tuple[str, ...]:
        tries = self._by_node.get(key)
        return tries.words if tries else ()

    def hold_s(self, key: NodeKey) -> float:
        tries = self._by_node.get(key)
        return max(0.0, tries.not_before - time.monotonic()) if tries else 0.0

    def forget(self, key: NodeKey) -> None:
        self._by_node.pop(key, None)

    def _of(self, key: NodeKey) -> _Tries:
        return self._by_node.setdefault(key, _Tries())
