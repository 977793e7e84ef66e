"""`cachekeep right-size`: what it refuses before anyone is asked, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachekeep.cli.main import app
from cachekeep.cli.refusal import MISUSE, SERVICE_DOWN, Refused
from cachekeep.cli.right_size import NO_ANSWER, exit_code


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--margin", "lots"], "--margin must be a number, not 'lots'"),
        (["--margin", "-1"], "margin must be between 0 and 1000"),
        (["--margin", "nan"], "--margin must be a number"),
        (["--horizon-days", "1e9"], "horizon_days must be between 0 and 3650"),
        (["--window-days", "0"], "days must be above 0 and at most 455"),
        (["--window-days", "9" * 400], "--window-days must be a number"),
    ],
)
def test_bad_numbers_are_refused_in_a_sentence(arguments: list[str], wrong: str) -> None:
    with pytest.raises(Refused, match=wrong) as refused:
        app(["right-size", "demo", *arguments])
    assert refused.value.code == MISUSE == 2
    assert len(str(refused.value)) < 120


def test_sizing_needs_the_service() -> None:
    with pytest.raises(Refused, match="the service is down") as refused:
        app(["right-size", "demo"])
    assert refused.value.code == SERVICE_DOWN


def test_the_exit_code_says_whether_anything_holds_the_load() -> None:
    assert exit_code({"candidates": [{}]}) == 0
    assert exit_code({"candidates": []}) == NO_ANSWER == 1
