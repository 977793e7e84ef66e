"""Calls of `backup run` that cannot be meant: refused with a sentence before anything is asked or written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cachekeep.cli.backup.run import duration_of
from cachekeep.cli.main import main

NOWHERE = "redis://127.0.0.1:1"


def refused(capsys: pytest.CaptureFixture[str], place: Path, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["backup", "run", NOWHERE, str(place), *arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not place.exists()
    assert isinstance(ended.value.code, int)
    return ended.value.code, " ".join(captured.err.split())


@pytest.mark.parametrize("method", ["tracking", "keyspace", "poll"])
def test_a_copy_takes_no_method_of_following(capsys: pytest.CaptureFixture[str], tmp_path: Path, method: str) -> None:
    code, text = refused(capsys, tmp_path / "place", "--source", method)
    assert code == 2
    assert f"--source {method} needs --follow" in text


def test_following_takes_no_plain_scan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = refused(capsys, tmp_path / "place", "--follow", "--source", "scan")
    assert code == 2
    assert "poll" in text


@pytest.mark.parametrize("words", [("--db", "0"), ("--match", "user:*")])
def test_following_is_of_all_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]) -> None:
    code, text = refused(capsys, tmp_path / "place", "--follow", *words)
    assert code == 2
    assert f"{words[0]} is not supported" in text


@pytest.mark.parametrize(
    "words",
    [
        *(("--from-replica",), ("--max-lag", "5"), ("--reconcile", "1h"), ("--reconcile-keys-per-s", "5000")),
        *(("--rollover", "24h"), ("--queue", "5"), ("--metrics-port", "0")),
    ],
)
def test_options_of_following_need_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    code, text = refused(capsys, tmp_path / "place", *words)
    assert code == 2
    assert f"{words[0]} is of --follow" in text


@pytest.mark.parametrize(
    "words",
    [
        *(("--max-lag", "soon"), ("--max-lag", "0"), ("--rollover", "-1"), ("--reconcile", "1w"), ("--queue", "0")),
        *(("--metrics-port", "65536"), ("--patience", "nan"), ("--rollover", "9" * 400), ("--source", "rdb")),
    ],
)
def test_values_that_are_none_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    code, text = refused(capsys, tmp_path / "place", "--follow", *words)
    assert code == 2
    assert words[0] in text


def test_a_taken_metrics_port_is_told_before_anything_begins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = refused(capsys, tmp_path / "place", "--follow", "--metrics-port", str(port))
    assert code == 1
    assert f"127.0.0.1:{port}" in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("0.5", 0.5), (" 2 h ", 7200), (5.0, 5)],
)
def test_durations_have_units(text: str | float, seconds: float) -> None:
    assert duration_of(text) == seconds
