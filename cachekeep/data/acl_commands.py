"""Reads the commands that engine versions know, and those that no client may have. The file names its sources."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from cachekeep.domain.acl_commands import Commands
from cachekeep.domain.engine import Engine, EngineVersion


@cache
def acl_commands() -> Commands:
    raw = json.loads((files("cachekeep.data") / "acl_commands.json").read_text("utf-8"))
    known = []
    for name, lines in raw["commands"].items():
        engine, _, version = name.partition(" ")
        known.append((Engine(engine), EngineVersion.parse(version), frozenset(" ".join(lines).split())))
    return Commands(tuple(known), (*raw["restricted"], *raw["ours"]), frozenset(raw["categories"]))
