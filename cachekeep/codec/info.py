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


def has_module(text: str, name: str) -> bool:
    """Whether INFO names a loaded module: `module:name=lua,ver=1,...`, a line for each, so that no field tells."""
    return f"\nmodule:name={name}," in text


def databases_used(info: Mapping[str, str]) -> tuple[int, ...]:
    """Return the numbers of the databases that hold keys, in order."""
    return tuple(sorted(int(name[2:]) for name, value in info.items() if _keys_in(name, value)))


def replicas_waiting(info: Mapping[str, str]) -> int:
    """Count the lines `slave0:ip=127.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0` of replicas not online yet."""
    lines = (value for name, value in info.items() if name[:5] == "slave" and name[5:].isdecimal())
    return sum(",state=" in line and ",state=online" not in line for line in lines)


def count_keys(info: Mapping[str, str]) -> int:
    """Return the number of keys in all databases, from the lines `db0:keys=7,expires=0,avg_ttl=0`."""
    return sum(_keys_in(name, value) for name, value in info.items())


def hashes_with_expiring_fields(info: Mapping[str, str]) -> int:
    """Count the keys whose fields may expire, from `keys_with_volatile_items=3` in a database's line (Valkey 9)."""
    lines = (value for name, value in info.items() if name[:2] == "db" and name[2:].isdecimal())
    parts = (part.partition("=") for line in lines for part in line.split(","))
    return sum(int(count) for name, _, count in parts if name == "keys_with_volatile_items" and count.isdecimal())


def _keys_in(name: str, value: str) -> int:
    """The keys that a line of the section Keyspace tells of; 0 for any other line."""
    if name[:2] == "db" and name[2:].isdecimal() and value.startswith("keys="):
        return int(value[len("keys=") :].split(",", 1)[0])
    return 0
