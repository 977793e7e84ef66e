"""Tables of numbers: however narrow the terminal is, no number is cut."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from cachekeep.cli.columns import print_rows

COLUMNS = ["~Region", "~Model", ">Upfront USD", "As of"]
ROWS = [["us-east-1", "reserved-1yr-partial-upfront", "1143.7056", "2025-06-24"], ["a", "on-demand", "-", "-"]]


def shown(width: int, *notes: str) -> list[str]:
    out = StringIO()
    print_rows(Console(file=out, width=width), COLUMNS, ROWS, notes)
    return out.getvalue().splitlines()


def test_a_wide_terminal_gets_a_line_for_each_row() -> None:
    assert shown(80) == [
        "Region     Model                         Upfront USD  As of",
        "us-east-1  reserved-1yr-partial-upfront    1143.7056  2025-06-24",
        "a          on-demand                               -  -",
    ]


def test_words_are_folded_before_numbers() -> None:
    assert shown(48) == [
        "Region     Model             Upfront  As of",
        "                                 USD",
        "us-east-1  reserved-1yr-   1143.7056  2025-06-24",
        "           partial-",
        "           upfront",
        "a          on-demand               -  -",
    ]


def test_where_no_folding_helps_each_row_is_a_sentence() -> None:
    assert shown(30) == [
        "Region us-east-1, Model",
        "  reserved-1yr-partial-upfront,",
        "  Upfront USD 1143.7056, As of",
        "  2025-06-24",
        "Region a, Model on-demand,",
        "  Upfront USD -, As of -",
    ]


def test_a_note_stands_below_its_row() -> None:
    lines = shown(64, "needs [cluster] mode", "")
    assert lines[2] == "  needs [cluster] mode"
    assert len(lines) == 4


@pytest.mark.parametrize("width", range(1, 90))
def test_at_no_width_a_number_is_cut_or_a_line_longer_than_its_longest_word(width: int) -> None:
    lines = shown(width)
    for number in ("1143.7056", "2025-06-24"):
        assert any(number in line for line in lines)
    assert max(map(len, lines)) <= max(width, len("  reserved-1yr-partial-upfront,"))
