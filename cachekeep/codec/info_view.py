"""An answer of INFO that is parsed when the first name is looked up, not before. Pure; made by engine.meter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cachekeep.codec.info import parse_info


class InfoView(Mapping[str, str]):
    """The mapping of `parse_info` over the raw bytes. Bytes that are not UTF-8 become the replacement character."""

    __slots__ = ("_fields", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._fields: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._parsed()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())

    def _parsed(self) -> dict[str, str]:
        if self._fields is None:
            self._fields = parse_info(self._raw.decode("utf-8", "replace"))
            self._raw = b""
        return self._fields
