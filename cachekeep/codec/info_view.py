"""An answer of INFO in which a field is looked for when it is asked for. Pure; made by engine.meter.

Of some 270 lines fifty are asked for each second. An engine writes its fields in one order, so a field stands near
where it stood in the answer before: there it is looked for first, by its whole name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TypeVar, overload

T = TypeVar("T")
# Numbers before a field get longer and shorter: it is looked for so many bytes before where it was, and behind it.
_DRIFT = 48


class InfoView(Mapping[str, str]):
    """Equal to `parse_info` where lines end in CRLF and none has the name of another, as an engine writes them.

    positions: where names stood in answers before this one; lookups bring it up to date, so one is kept per engine.
    Only the raw bytes are kept. Walking it costs as much as parsing all. Bytes that are not UTF-8 become the
    replacement character.
    """

    __slots__ = ("_positions", "_raw")

    def __init__(self, raw: bytes, positions: dict[str, int] | None = None) -> None:
        self._raw = b"\n" + raw
        self._positions = {} if positions is None else positions

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: str | T) -> str | T: ...
    def get(self, key: str, /, default: str | T | None = None) -> str | T | None:
        raw, before = self._raw, self._positions.get(key, 0)
        title = _title(key)
        at = raw.find(title, max(0, before - _DRIFT), before + _DRIFT + len(title))
        if at < 0 and (at := raw.find(title)) < 0:
            return default if key.isascii() else dict(self.starting("")).get(key, default)
        if at != before:
            self._positions[key] = at
        begin = at + len(title)
        end = raw.find(b"\r\n", begin)
        return str(raw[begin : end if end >= 0 else len(raw)], "utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.starting(""))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def starting(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Names that begin so, and their values, in the order of the answer."""
        raw, opening = self._raw, b"\n" + prefix.encode()
        at = raw.find(opening)
        while at >= 0:
            end = raw.find(b"\r\n", at + 1)
            line = raw[at + 1 : end if end >= 0 else len(raw)]
            name, colon, value = line.partition(b":")
            if colon and len(name) >= len(opening) - 1:
                yield str(name, "utf-8", "replace"), str(value, "utf-8", "replace")
            at = raw.find(opening, at + 1)


@lru_cache(maxsize=1024)
def _title(name: str) -> bytes:
    """How the line of a field begins. A name with a colon is no name: such a line has the name before it."""
    return b"\n\n" if ":" in name or "\n" in name else b"\n" + name.encode() + b":"
