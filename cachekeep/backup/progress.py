"""How far long work has come. Told by copy, restore, verify and diff; shown by the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """keys and bytes: done so far in this phase; total_keys: None when nobody knows, and only an estimate otherwise."""

    phase: str
    keys: int
    bytes: int
    total_keys: int | None = None


OnProgress = Callable[[Progress], None]


def unheard(progress: Progress) -> None:
    """For callers that do not ask."""
