"""Until when AWS supports a major version of an engine at no further price. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cachekeep.domain.engine import Engine, EngineVersion


@dataclass(frozen=True)
class SupportEnd:
    """standard_at, extended_at: seconds since 1970, the ends of standard and of extended (paid) support."""

    engine: Engine
    major: int
    standard_at: float
    extended_at: float

    def concerns(self, engine: Engine, version: EngineVersion) -> bool:
        return engine is self.engine and version.major == self.major

    def sentence(self, now: float) -> str:
        """For an event."""
        verb = "ended" if now >= self.standard_at else "ends"
        return (
            f"Standard support of {self.engine.label} {self.major} {verb} on {_day(self.standard_at)} at AWS, extended "
            f"support on {_day(self.extended_at)}: change to a newer version"
        )


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
