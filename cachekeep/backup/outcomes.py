"""What became of a record in a restore, as a number below 256, so that a million of them take a megabyte."""

from __future__ import annotations

from enum import IntEnum

from cachekeep.backup.compare import Verdict

FIRST_REASON = 16
_LAST_REASON = 255
_TEXT_LIMIT = 300
OTHER_REASONS = "for other reasons"


class Outcome(IntEnum):
    """Numbers from FIRST_REASON on: refused, and why."""

    KEPT = 0
    WRITTEN = 1
    EXPIRED = 2
    ABSENT = 3


WRITES = frozenset((Verdict.VALUE, Verdict.EXPIRY, Verdict.TYPE, Verdict.MISSING))
_OF_VERDICT = {
    Verdict.SAME: Outcome.KEPT,
    **dict.fromkeys(WRITES, Outcome.WRITTEN),
    Verdict.EXPIRED: Outcome.EXPIRED,
    Verdict.OUTLIVED: Outcome.EXPIRED,
    Verdict.ABSENT: Outcome.ABSENT,
}
# For bytes.translate: verdicts to outcomes, once what was to be written is written.
OUTCOMES = bytes(_OF_VERDICT.get(Verdict(one), FIRST_REASON) if one < len(Verdict) else one for one in range(256))


class Reasons:
    """Why keys were refused: a number for each sentence, the same one for the same sentence."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Beyond some two hundred sentences they share the last number."""
        text = text[:_TEXT_LIMIT]
        return self._texts.setdefault(text, min(FIRST_REASON + len(self._texts), _LAST_REASON))

    def text(self, number: int) -> str:
        if number == _LAST_REASON:
            return OTHER_REASONS
        return next(text for text, one in self._texts.items() if one == number)
