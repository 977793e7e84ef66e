"""The text of INFO as a mapping. Pure; called by engine.

Source: valkey server.c `genValkeyInfoString`: sections open with `# Name`, a line is `field:value`, lines end in CRLF.
"""

from __future__ import annotations

from collections.abc import Mapping


def parse_info(text: str) -> dict[str, str]:
    """Return every `field:value` of INFO's answer; a field that stands twice keeps its last value.

    Only the first colon parts field from value: values such as `::1` or `keys=1,expires=0` hold more of them.
    """
    # A section's title has no colon. Every node is asked every second, so this is written for speed.
    return {pair[0]: pair[1] for line in text.splitlines() if len(pair := line.split(":", 1)) == 2}


def count_keys(info: Mapping[str, str]) -> int:
    """Return the number of keys in all databases, from the lines `db0:keys=7,expires=0,avg_ttl=0`."""
    total = 0
    for name, value in info.items():
        if name[:2] == "db" and name[2:].isdecimal() and value.startswith("keys="):
            total += int(value[len("keys=") :].split(",", 1)[0])
    return total
