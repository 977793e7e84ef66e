"""The payloads of payloads.txt: one of each type and encoding, most as servers wrote them.

A line is a name, the digest of the value and the payload, both in hex, parted by tabs.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    name: str
    digest: bytes
    payload: bytes


def samples() -> list[Sample]:
    lines = Path(__file__).with_name("payloads.txt").read_text().splitlines()
    return [Sample(name, bytes.fromhex(digest), bytes.fromhex(payload)) for name, digest, payload in map(_parts, lines)]


def _parts(line: str) -> list[str]:
    return line.split("\t")
