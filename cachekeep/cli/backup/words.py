"""Words that several commands need: numbers with their nouns, nodes, durations."""

from __future__ import annotations

_ALONE = "only"  # the lane of a server that stands alone, see backup.survey_types.Node


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 key`, `2,000 keys`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def lane_of(lane: object) -> str | None:
    """The node's address; None where there is one node only, or none in particular."""
    return str(lane) if lane and lane != _ALONE else None


def where(lane: object) -> str:
    """` (127.0.0.1:6379)` behind a sentence; nothing where there is one node only."""
    return f" ({lane})" if (lane := lane_of(lane)) else ""


def in_duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, int(seconds))
    for unit, size, next_unit, next_size in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // next_size} {next_unit}"
    return f"{whole} s"
