"""One row of the truth table: what an operation does here, and the test that proves it. Used by api.operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cachekeep.api.context import Call
from cachekeep.api.present import Shape

Handler = Callable[[Call], Shape]


class Truth(StrEnum):
    """real: an engine did it, or the answer is read from what engines did. recorded: kept and shown, no engine is
    concerned. refused: answers the declared fault."""

    REAL = "real"
    RECORDED = "recorded"
    REFUSED = "refused"


@dataclass(frozen=True)
class Entry:
    """proof: the test that proves it. note: what is real, recorded or refused within it."""

    handler: Handler
    truth: Truth
    proof: str
    note: str = ""
