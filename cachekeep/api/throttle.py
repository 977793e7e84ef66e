"""How many requests an access key may make in a region before it is told to wait: a token bucket each.

Off unless the setting `api_rate` is above 0. Called by api.dispatch once a request is known to be the key's, and before
anything of it is read. The fault is the one that AWS's front door gives for every operation, and that all retry modes
of AWS's clients wait for and repeat (`APICallRateForCustomerExceeded`, which TestFailover declares, they do not: it
tells of too many failovers in a day). Source: AWS "Common Errors"; botocore data/_retry.json, retries/standard.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachekeep.domain.faults import Fault

# How many seconds' worth of requests may come at once.
BURST_S = 2.0


@dataclass
class _Bucket:
    tokens: float
    at: float


class Throttle:
    """rate: requests per second. monotonic: seconds, never backwards.

    There are as many buckets as accepted keys times known regions, at most.
    """

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        if rate <= 0:
            raise ValueError("the rate must be above 0 requests per second")
        self._rate = rate
        self._most = max(1.0, rate * BURST_S)
        self._monotonic = monotonic
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def check(self, access_key: str, region: str) -> None:
        """Count one request. Raises Throttling when it is one too many; a refused one counts for nothing."""
        now = self._monotonic()
        bucket = self._buckets.setdefault((access_key, region), _Bucket(self._most, now))
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            raise Fault("Throttling", "Rate exceeded")
        bucket.tokens -= 1
