"""The verdict on the continuous backup of a group: how far behind it is, or why it is not kept. Pure; called by report.

Bounds are ours: an idle engine is heard of every half minute, a failover takes seconds, and what lasts for ten minutes
does not pass by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cachekeep.domain.continuous import Standing
from cachekeep.domain.metrics import Tier
from cachekeep.domain.verdicts import Level, Verdict

WARNING_S, RISK_S = 120.0, 600.0
METRIC, TITLE = "ContinuousBackup", "Continuous Backup"
_MEANS = "How long ago the last moment was that the continuous backup can restore."
_NEXT = "See whether the disk of the state directory has room, and `cachekeep journal` of the group; it is tried again."


def backup_verdict(standing: Standing, now: float) -> Verdict:
    """now: seconds since 1970. Unknown while the first copy is made and nothing is wrong."""
    lag_s = standing.lag_s(now)
    level, why = _level(standing, now), _why(standing, now)
    value = "-" if lag_s is None else f"{lag_s:.0f} s"
    sentence = f"{TITLE} is {level.value}: {why if lag_s is None else f'{value}; {why}'}"
    pressing = level in (Level.WARNING, Level.RISK)
    return Verdict(
        METRIC,
        TITLE,
        Tier.IMPORTANT,
        level,
        value,
        sentence,
        _MEANS,
        cause=standing.trouble if pressing else "",
        next=_NEXT if pressing else "",
        number=lag_s,
    )


def _level(standing: Standing, now: float) -> Level:
    lag_s = standing.lag_s(now)
    behind_s = lag_s if lag_s is not None else now - standing.since if standing.trouble else 0.0
    if behind_s >= RISK_S:
        return Level.RISK
    if behind_s >= WARNING_S or standing.trouble:
        return Level.WARNING
    return Level.UNKNOWN if lag_s is None else Level.SAFE


def _why(standing: Standing, now: float) -> str:
    since = f"{datetime.fromtimestamp(standing.since, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if standing.trouble:
        return f"not running since {since}: {standing.trouble}"
    if standing.until is None:
        return f"no moment can be restored yet, {max(0.0, now - standing.since):.0f} s after the first copy began"
    return f"running since {since}" if standing.follows else "begun again, and not following yet"
