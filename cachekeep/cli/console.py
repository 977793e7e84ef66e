"""Where commands print: tables and sentences to stdout, notes and errors to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from rich.console import Console
from rich.markup import escape

T = TypeVar("T")
# For pipes and files, which have no width: wide enough that no address is cut.
_WIDTH_WITHOUT_TERMINAL = 180


def console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, highlight=False)


def cleaned(page: T) -> T:
    """The texts in a page's values without characters that a terminal would obey: some are from servers that are not
    ours."""
    made: object = page
    if isinstance(page, str):
        made = "".join(char if char.isprintable() else "?" for char in page)
    elif isinstance(page, Mapping):
        made = {cleaned(key): cleaned(value) for key, value in page.items()}
    elif isinstance(page, list):
        made = [cleaned(value) for value in page]
    return cast(T, made)


def print_lines(lines: Iterable[str]) -> None:
    """On stdout, as they are: neither this program nor the terminal takes any of it for an order."""
    out = console()
    for line in lines:
        out.print(escape(cleaned(line)), soft_wrap=True)


def in_short(size: float | None) -> str:
    """A size for a narrow column, as engines write it in their configuration: `384M`; `-` for None."""
    return in_bytes(size).replace(" ", "").removesuffix("iB").replace(".0", "").removesuffix("B")


def in_bytes(size: float | None) -> str:
    """A size for people: `1.5 GiB`; `-` for None."""
    if size is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit in ("B", "KiB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
