"""Parameters of a request as the trail may keep them: without secrets, and short. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime

HIDDEN = "***"
CUT = "..."
LONGEST_TEXT = 256
MOST_ITEMS = 50
# Of all parameters of a request together: a large one must not push others out of the trail.
LONGEST_ALL = 8192
_DEEPEST = 6
# ClientToken and NextToken are none, but nobody misses them.
_SECRET_NAME = re.compile(r"password|secret|token|credential", re.IGNORECASE)
# Passwords in the engine's own words for users: >text, <text, #digest, !digest; refused by the API, yet written down.
# Also behind a quote or a bracket; a key pattern that has such a character is hidden too, and nobody minds.
_PASSWORD_WORD = re.compile(r"[><#!]\S+")
_BETWEEN = re.compile(r"([\s/]+)")


def without_secrets(params: Mapping[str, object]) -> dict[str, object]:
    """The same names; values that are or may hold secrets are hidden, long ones cut."""
    kept: dict[str, object] = {}
    left = LONGEST_ALL
    for name, value in list(params.items())[:MOST_ITEMS]:
        one = _kept(name, value, 0)
        size = len(json.dumps(one))
        kept[name] = one if size <= left else CUT
        left -= min(size, left)
    return kept


def short(text: str) -> str:
    """A text of a request, such as the name of a resource: no password before a host, and not long."""
    text = text[: 4 * LONGEST_TEXT]
    words = _BETWEEN.split(text) if "@" in text else [text]
    for number in range(0, len(words), 2):
        before, at, host = words[number].rpartition("@")
        # In a URL there may be a token alone; elsewhere that is an address for mail.
        if at and (":" in before or (number and words[number - 1] == "//")):
            words[number] = f"{HIDDEN}@{host}"
    text = "".join(words)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + CUT


def _kept(name: str, value: object, depth: int) -> object:
    if _SECRET_NAME.search(name) and not isinstance(value, Mapping | bool):
        return HIDDEN
    if depth > _DEEPEST:
        return CUT
    match value:
        case Mapping():
            return {str(key): _kept(str(key), one, depth + 1) for key, one in list(value.items())[:MOST_ITEMS]}
        case list() | tuple():
            return [_kept(name, one, depth + 1) for one in value[:MOST_ITEMS]]
        case bool() | int() | float() | None:
            return value
        case datetime():
            return value.isoformat()
    text = str(value)
    return short(_PASSWORD_WORD.sub(HIDDEN, text) if name.lower() == "accessstring" else text)
