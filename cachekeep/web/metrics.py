"""The sixteen metrics that a group's page draws, in the seed document's tiers and order. Pure.

They are those of thresholds.json. What is judged as a percentage of a limit is drawn as it is counted; report.charts
scales its bands.
"""

from __future__ import annotations

from collections.abc import Sequence

from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.metrics import Tier

Titles = tuple[tuple[str, str], ...]
_DRAWN_AS = {"ConnectionsUsagePercentage": "CurrConnections", "FreeableMemoryPercentage": "FreeableMemory"}


def _titles(tier: Tier) -> Titles:
    # The unit stands beside the title.
    judged = (threshold for threshold in thresholds() if threshold.tier is tier)
    return tuple((_DRAWN_AS.get(one.metric, one.metric), one.title.removesuffix(" %")) for one in judged)


CHARTED: tuple[tuple[Tier, Titles], ...] = tuple((tier, _titles(tier)) for tier in Tier)
NAMES = frozenset(name for _, titles in CHARTED for name, _ in titles)


def charted(engine: str | None, *, local: bool) -> Sequence[tuple[Tier, Titles]]:
    """Those that such a cache can have. engine: None where it is not known. local: it runs here, it is not watched."""
    kind = "memcached" if engine == "memcached" else "resp"

    def can_be(name: str) -> bool:
        metric = metrics()[name]
        return (engine is None or kind in metric.engines) and (local or not metric.local_only)

    chosen = [(tier, tuple(pair for pair in titles if can_be(pair[0]))) for tier, titles in CHARTED]
    return [(tier, titles) for tier, titles in chosen if titles]
