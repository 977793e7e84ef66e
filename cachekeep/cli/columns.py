"""Tables of numbers for people: words are folded where a terminal is narrow, numbers never cut.

Called by the commands `cost` and `right-size`. Texts are shown as they are, without markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill, wrap

from rich.console import Console

_GAP = "  "


def print_rows(out: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """columns: titles; `>` before one puts its cells to the right, `~` lets them be folded. notes: of each row, "" for
    none; shown below it.

    Where even the folded table is too wide, each row is a sentence of its own.
    """
    titles = [column.lstrip(">~") for column in columns]
    widths = _widths(columns, rows, out.width)
    if widths is not None:
        for line in _lines(titles, columns, widths):
            out.print(line, style="dim", markup=False, soft_wrap=True)
    for place, row in enumerate(rows):
        if widths is None:
            told = ", ".join(f"{title} {cell}" for title, cell in zip(titles, row, strict=True))
            _print(out, fill(told, out.width, subsequent_indent=_GAP, break_long_words=False, break_on_hyphens=False))
        else:
            for line in _lines(row, columns, widths):
                _print(out, line)
        if notes and notes[place]:
            _print(out, fill(_GAP + notes[place], out.width, subsequent_indent=_GAP, break_long_words=False))


def _print(out: Console, text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """In characters, without the gaps. None where they cannot fit."""
    least, widths = [], []
    for place, column in enumerate(columns):
        cells, title = [row[place] for row in rows], column.lstrip(">~")
        parts = [*title.split(), *(_pieces(cells) if column.startswith("~") else cells)]
        least.append(max(map(len, parts)))
        widths.append(max(map(len, [title, *cells])))
    room = width - len(_GAP) * (len(columns) - 1)
    while sum(widths) > room:
        slack = [(now, place) for place, (now, few) in enumerate(zip(widths, least, strict=True)) if now > few]
        if not slack:
            return None
        widths[max(slack)[1]] -= 1
    return widths


def _pieces(cells: Sequence[str]) -> list[str]:
    """What a line can end after: words, and the parts of `reserved-1yr-no-upfront`."""
    return [piece for cell in cells for piece in wrap(cell, 1, break_long_words=False)]


def _lines(cells: Sequence[str], columns: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    folded = [wrap(cell, width, break_long_words=False) for cell, width in zip(cells, widths, strict=True)]
    for height in range(max(map(len, folded))):
        parts = [lines[height] if height < len(lines) else "" for lines in folded]
        placed = zip(parts, columns, widths, strict=True)
        yield _GAP.join(
            part.rjust(width) if column.startswith(">") else part.ljust(width) for part, column, width in placed
        ).rstrip()
