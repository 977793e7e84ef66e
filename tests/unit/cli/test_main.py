"""The command line itself: help, version, and how a call that cannot be carried out ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cachekeep import __version__
from cachekeep.cli.main import main

COMMANDS = ("up", "down", "serve", "status", "env", "doctor", "plan", "groups", "journal", "topics", "watch")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("CACHEKEEP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"cachekeep {__version__}\n", "")


def test_help_names_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in COMMANDS:
        (line,) = [text for text in out.splitlines() if text.startswith(f"│ {command} ")]
        assert line.rstrip("│ ").endswith(".")
    assert "Examples" in out
    assert 'eval "$(cachekeep env)"' in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_the_state_directory(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "--state-dir" in out
    assert "CACHEKEEP_STATE_DIR" in out


@pytest.mark.parametrize("command", ["up", "serve"])
def test_no_command_takes_a_secret(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, _, _ = run(capsys, command, "--access-keys", "AK:secret-one")
    assert code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "http"],
        ["up", "--port", "0"],
        ["up", "--address-range", "10.0.0.0/8"],
        ["doctor", "--overcommit", "0"],
        ["env", "--region", "Europe West"],
        ["serve", "--log-level", "loud"],
        ["up", "--account-id", "1"],
        ["serve", "--hang-timeout", "0"],
        ["up", "--rollback-hours", "1000"],
        ["up", "--sync-timeout", "soon"],
        ["plan", "--replication-group-id", "demo"],
        ["plan", "rename-replication-group"],
        ["env"],  # never started: no credentials
        ["down", "--delete-data", "--yes"],  # no such directory
    ],
)
def test_what_cannot_be_carried_out_is_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("cachekeep: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "modify-replication-group", "--replication-group-id", "demo"],
        ["groups"],
        ["groups", "modify", "demo", "--replicas", "2", "--dry-run"],
        ["groups", "failover", "demo"],
        ["journal", "demo"],
    ],
)
def test_what_asks_the_service_says_that_it_is_down(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (3, "")
    assert "the service is down" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["modify", "failover"])
def test_the_commands_of_groups_can_be_tried_without_doing_anything(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, _ = run(capsys, "groups", command, "--help")
    assert code == 0
    assert "--dry-run" in out
    assert "--state-dir" in out


def test_status_of_what_was_never_started_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "status")
    assert code == 3
    assert "The service is down" in out
    assert not (tmp_path / "state").exists(), "looking must not make anything"


def test_down_of_what_was_never_started_is_no_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "down")
    assert code == 0
    assert "Nothing runs" in out
    assert not (tmp_path / "state").exists()


def test_a_directory_that_is_not_ours_is_never_emptied(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    code, _, err = run(capsys, "down", "--delete-data", "--yes", "--state-dir", str(tmp_path))
    assert code == 2
    assert "does not look like a state directory" in err
    assert (tmp_path / "thesis.tex").exists()


def test_only_what_is_ours_is_deleted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for name in ("service.lock", "metrics.sqlite", "metrics.sqlite-wal", "metrics-token", "prices.csv"):
        (tmp_path / name).touch()
    (tmp_path / "nodes").mkdir()
    code, out, _ = run(capsys, "down", "--delete-data", "--yes", "--state-dir", str(tmp_path))
    assert code == 0
    assert "left: thesis.tex" in out
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_deleting_without_a_terminal_needs_yes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "service.lock").touch()
    code, _, err = run(capsys, "down", "--delete-data", "--state-dir", str(tmp_path))
    assert code == 2
    assert "--yes" in err
    assert (tmp_path / "service.lock").exists()
