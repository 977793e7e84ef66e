"""How often an address may try to sign in: a few times freely, then ever more seldom."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_ATTEMPTS = 5
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
MOST_ADDRESSES = 4096


@dataclass
class _Failures:
    count: int = 0
    free_at: float = 0.0


class Attempts:
    """Failures by address, forgotten with the first success. now: seconds, monotonic."""

    def __init__(self, now: Callable[[], float], most: int = MOST_ADDRESSES) -> None:
        self._now = now
        self._most = most
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """For how long no attempt from there is looked at; 0 for not at all."""
        failures = self._failures.get(address)
        return max(0.0, failures.free_at - self._now()) if failures else 0.0

    def failed(self, address: str) -> None:
        failures = self._failures.setdefault(address, _Failures())
        self._failures.move_to_end(address)
        failures.count += 1
        beyond = failures.count - FREE_ATTEMPTS
        if beyond >= 0:
            failures.free_at = self._now() + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(beyond, 20))
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)
