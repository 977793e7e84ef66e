"""An answer of INFO in which a field is looked for when it is asked for. Pure; made by engine.meter.

Of some 270 lines fifty are asked for each second. An engine writes the same lines in the same order until something
joins them, so a field is looked for first on the line where it stood in the answer before, by its whole name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

T = TypeVar("T")
# On which line a name stood; kept for each engine.
Layout = dict[str, int]


class InfoView(Mapping[str, str]):
    """Equal to `parse_info` where lines end in CRLF and none has the name of another, as an engine writes them.

    layout: of answers before this one; lookups bring it up to date. Walking it costs as much as parsing all. Bytes
    that are not UTF-8 become the replacement character.
    """

    __slots__ = ("_layout", "_lines", "_text")

    def __init__(self, raw: bytes, layout: Layout | None = None) -> None:
        self._text = str(raw, "utf-8", "replace")
        # Commands have a hundred lines, none of which is asked for by its name.
        end = self._text.find("# Commandstats\r\n")
        self._lines: list[str] | None = self._text[: end if end >= 0 else None].split("\r\n")
        self._layout = {} if layout is None else layout

    def fold(self) -> None:
        """Keep the text only: a tenth of the lines' memory. Lookups are ten times as slow from now on."""
        self._lines = None

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
        if (number := self._layout.get(key)) is not None and self._lines is not None and number < len(self._lines):
            name, colon, value = self._lines[number].partition(":")
            if name == key and colon:
                return value
        found = self._search(key)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs(0))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def section(self, title: str) -> Iterator[tuple[str, str]]:
        """Names and values of the lines below `# title`; none where there is no such section."""
        # From the end: Keyspace, which is asked for every second, comes last.
        at = self._text.rfind(f"# {title}\r\n")
        return iter(()) if at < 0 else self._pairs(at + len(title) + 4, one_section=True)

    def _search(self, name: str) -> str | None:
        """The value on whichever line it stands."""
        title = f"{name}:"
        if ":" in name:  # such a line has the name before its first colon
            return None
        at = 0 if self._text.startswith(title) else self._text.find(f"\r\n{title}") + 2
        if at == 1:
            return None
        self._layout[name] = self._text.count("\r\n", 0, at)
        end = self._text.find("\r\n", at)
        return self._text[at + len(title) : end if end >= 0 else None]

    def _pairs(self, at: int, *, one_section: bool = False) -> Iterator[tuple[str, str]]:
        while at < len(self._text):
            end = self._text.find("\r\n", at)
            end = len(self._text) if end < 0 else end
            if one_section and self._text[at] in "#\r":
                return
            name, colon, value = self._text[at:end].partition(":")
            if colon:
                yield name, value
            at = end + 2
