"""Reads thresholds.json: when a metric is safe, a warning or a risk. Called by the composition root and the CLI."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from cachekeep.data.load import DataError
from cachekeep.domain.verdicts import Threshold, read_thresholds


@cache
def thresholds() -> tuple[Threshold, ...]:
    """All of them, in the order in which they are shown: the seed's tiers, and its order within each."""
    try:
        return read_thresholds(json.loads((files("cachekeep.data") / "thresholds.json").read_text("utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"thresholds.json: {error!r}") from error
