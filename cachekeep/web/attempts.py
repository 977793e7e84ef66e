"""How often one may try to sign in: a few times freely, then ever more seldom; by address and by access key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

FREE_ATTEMPTS = 5
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
# Of what the owner has in common with everybody who tries: nobody shall be able to lock the owner out for long.
LONGEST_SHARED_WAIT_S = 30.0
MOST_SOURCES = 4096
_LONGEST_NAME = 128


class Source(NamedTuple):
    """What attempts are counted by."""

    kind: str
    name: str
    longest_wait_s: float


def sources_of(address: str, access_key: str) -> tuple[Source, Source]:
    """The address and the key. All of this machine count as one: whoever is on it can come from any of 127.0.0.0/8."""
    key = Source("key", access_key[:_LONGEST_NAME], LONGEST_SHARED_WAIT_S)
    if _is_here(address):
        return Source("address", "this machine", LONGEST_SHARED_WAIT_S), key
    return Source("address", address, LONGEST_WAIT_S), key


def _is_here(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return not address  # a local socket has none
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


@dataclass
class _Failures:
    count: int = 0
    free_at: float = 0.0


class Attempts:
    """Failures by source, forgotten with the first success. now: seconds, monotonic."""

    def __init__(self, now: Callable[[], float], most: int = MOST_SOURCES) -> None:
        self._now = now
        self._most = most
        self._failures: OrderedDict[Source, _Failures] = OrderedDict()

    def wait_s(self, *sources: Source) -> float:
        """For how long no attempt of any of them is looked at; 0 for not at all."""
        known = [self._failures[source].free_at for source in sources if source in self._failures]
        return max(0.0, max(known, default=0.0) - self._now())

    def failed(self, *sources: Source) -> None:
        for source in sources:
            failures = self._failures.setdefault(source, _Failures())
            self._failures.move_to_end(source)
            failures.count += 1
            beyond = failures.count - FREE_ATTEMPTS
            if beyond >= 0:
                failures.free_at = self._now() + min(source.longest_wait_s, FIRST_WAIT_S * 2.0 ** min(beyond, 20))
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, *sources: Source) -> None:
        for source in sources:
            self._failures.pop(source, None)
