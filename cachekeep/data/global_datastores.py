"""Facts of global datastores: the prefix of each region, and which node types can be used. Reads the package data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

_TYPE = re.compile(r"cache\.([a-z]+)([0-9]+)[a-z]*\.")


@cache
def _data() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((files("cachekeep.data") / "global_datastores.json").read_text("utf-8"))
    return found


def prefix_of(region: str) -> str:
    """Five letters: AWS's own, or for a region of which it is not known, letters of ours that are always the same."""
    known = _data()["prefixes"].get(region)
    if known is not None:
        return str(known)
    return "".join(chr(ord("a") + byte % 26) for byte in hashlib.sha256(region.encode()).digest()[:5])


def can_be_global(node_type: str) -> bool:
    """`cache.r6g.large` can, `cache.t4g.micro` cannot."""
    found = _TYPE.match(node_type)
    oldest = _data()["oldest_generation"].get(found[1]) if found else None
    return found is not None and oldest is not None and int(found[2]) >= oldest
