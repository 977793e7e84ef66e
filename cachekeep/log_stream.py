"""Where the service's log goes: lines to a descriptor, never an exception. A full disk must not stop the service."""

from __future__ import annotations

import os


class LogStream:
    """A write-only text stream over a descriptor. Lines that cannot be written are counted and told of later."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._why = ""

    def write(self, text: str) -> int:
        told = f"event='log lines lost' count={self._lost} reason={self._why!r}\n" if self._lost else ""
        try:
            self._write_all((told + text).encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._lost += 1
            self._why = error.strerror or type(error).__name__
        else:
            self._lost = 0
        return len(text)

    def _write_all(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Nothing is held back."""
