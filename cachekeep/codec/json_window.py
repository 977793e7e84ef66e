"""Decodes a large JSON file value by value, with at most one value and a chunk of text in memory.

Called by codec.offer_file. Reads its stream and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

_CHUNK = 256 * 1024
_MOST_PIECE = 16 * 1024 * 1024


class DamagedJson(ValueError):
    """The text is no JSON, ends too early, or has a value that is too large; the text says which."""


class JsonWindow:
    """A part of the stream: decodes JSON values one by one, and gives lines. Holds at most one piece and a chunk."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._text, self._at, self._ended = stream, "", 0, False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n\ufeff":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """The names of an object's members. The caller takes the value before it asks for the next name."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            name = self.value()
            if not isinstance(name, str):
                raise DamagedJson("the file is damaged: a name is no text")
            self._take(":")
            yield name
            if self.peek() == "}":
                self._take("}")
                return
            self._take(",")

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """The next value, whole. It is tried again with twice as much text until it is complete."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number may go on behind the end of the text
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended:
                    raise DamagedJson(f"the file is damaged or cut off: {error.msg}") from error
            except ValueError as error:  # an integer of more digits than Python reads
                raise DamagedJson("the file is damaged: a number has thousands of digits") from error
            except RecursionError as error:
                raise DamagedJson("the file is damaged: values within values without end") from error
            if len(self._text) - self._at > _MOST_PIECE:
                raise DamagedJson(f"the file is damaged: one value has more than {_MOST_PIECE >> 20} MiB")
            self._more(max(_CHUNK, len(self._text) - self._at))

    def lines(self) -> Iterator[str]:
        """The rest, by lines. A line without end is cut into pieces, which csv refuses."""
        if self._text:
            tail = self._text[self._at :]
            self._text, self._at = "", 0
            whole, _, last = tail.rpartition("\n")
            yield from (f"{line}\n" for line in whole.split("\n") if line)
            if line := last + self._stream.readline(_CHUNK):
                yield line
        while line := self._stream.readline(_CHUNK):
            yield line

    def _take(self, sign: str) -> None:
        if self.peek() != sign:
            raise DamagedJson(f"the file is damaged or cut off: {sign!r} expected, not {self.peek() or 'its end'!r}")
        self._at += 1

    def _more(self, size: int = _CHUNK) -> bool:
        read = self._stream.read(size)
        self._ended = not read
        self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)
