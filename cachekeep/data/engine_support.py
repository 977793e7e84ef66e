"""Reads the package data on how long versions of engines are supported. Called by the composition root."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from cachekeep.domain.engine import Engine
from cachekeep.domain.support import SupportEnd


@cache
def support_ends() -> tuple[SupportEnd, ...]:
    """One for each major version whose end of support is known."""
    page = json.loads(files("cachekeep.data").joinpath("engine_support.json").read_text())
    return tuple(
        SupportEnd(Engine(entry["engine"]), int(entry["major"]), _at(entry["standard"]), _at(entry["extended"]))
        for entry in page["ends"]
    )


def _at(day: str) -> float:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
