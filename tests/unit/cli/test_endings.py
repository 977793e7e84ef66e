"""How a command ends when its output cannot be written, and on Ctrl-C: never with 1 or 2, which mean something."""

from __future__ import annotations

import subprocess
import sys
from io import TextIOWrapper
from pathlib import Path

import pytest

from cachekeep import __main__
from cachekeep.cli import main as command
from cachekeep.cli.main import main
from cachekeep.cli.refusal import OUTPUT_FAILED

# The import of anything of a command is where Ctrl-C comes.
INTERRUPTED = """
import runpy, sys
class CtrlC:
    def find_spec(self, name, *more):
        if name == "cachekeep.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
runpy.run_module("cachekeep", run_name="__main__")
"""


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("arguments", [["--version"], ["cost", "cache.m5.large"], ["cost", "--json"], ["status"]])
def test_a_full_disk_is_one_sentence_and_74(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    unbuffered: bool,
    arguments: list[str],
) -> None:
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(tmp_path))
    with Path("/dev/full").open("wb", buffering=0) as disk, TextIOWrapper(disk, write_through=unbuffered) as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    assert ended.value.code == OUTPUT_FAILED == 74
    assert capsys.readouterr().err == "cachekeep: cannot write the output: No space left on device\n"


def test_a_closed_output_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        main(["cost", "cache.m5.large"])
    assert not ended.value.code


def test_another_files_trouble_is_not_taken_for_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str] | None) -> None:
        raise OSError(28, "No space left on device", "/state/prices.csv")

    monkeypatch.setattr(command, "_run", fail)
    with pytest.raises(OSError, match=r"prices\.csv"):
        main([])


def test_ctrl_c_during_the_imports_ends_quietly() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_during_a_command_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cachekeep.cli.cost.known_prices", lambda *_: interrupted())
    monkeypatch.setattr(sys, "argv", ["cachekeep", "cost"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")
