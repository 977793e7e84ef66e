"""Since when `cachekeep journal` tells."""

from __future__ import annotations

import pytest

from cachekeep.cli.journal import beginning
from cachekeep.cli.refusal import Refused


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0),
        ("30s", 970.0),
        ("2m", 880.0),
        ("0.1h", 640.0),
        ("3d", 0.0),
        ("1970-01-01T00:10:00+00:00", 600.0),
        ("1969-01-01", 0.0),
    ],
)
def test_a_span_or_a_moment(text: str | None, seconds: float) -> None:
    assert beginning(text, 1000.0) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["yesterday", "2", "h", "-2h", "2 h", "", "9" * 400 + "y"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--since takes"):
        beginning(text, 1000.0)
