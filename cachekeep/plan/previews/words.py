"""Sizes, times and lists as they stand in the sentences of a preview. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cachekeep.domain.engine import Engine, EngineVersion


def size(number: float) -> str:
    """`12.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def seconds(number: float) -> str:
    """`0.3 s`, `4 min`."""
    if number < 10:
        return f"{max(number, 0.1):.1f} s"
    return f"{number:.0f} s" if number < 120 else f"{number / 60:.0f} min"


def hours(number_s: float) -> str:
    return f"{number_s / 60:.0f} minutes" if number_s < 2 * 3600 else f"{number_s / 3600:g} hours"


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%a %Y-%m-%d %H:%M UTC")


def several(count: int, one: str, many: str | None = None) -> str:
    """`1 node`, `3 nodes`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def do(count: int, verb: str) -> str:
    """The verb as it stands behind so many: `starts`, `start`; `is`, `are`."""
    if count != 1:
        return verb
    return {"are": "is", "have": "has", "copy": "copies"}.get(verb, f"{verb}s")


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b and c`; of many the first ones."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def runs(engine: Engine, version: EngineVersion) -> str:
    return f"{engine.label} {version}"
