"""`cachekeep backup guard` as a user calls it: a process of its own, a signal that says done, its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from guarding import BULK, Upgrade, ticking, write_bulk

GUARD = [sys.executable, "-m", "cachekeep", "backup", "guard"]


def test_the_command_waits_for_a_signal_and_ends_with_5_when_keys_are_missing(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("SET", "lost", "value")
    write_bulk(server, "value")
    upgrade = Upgrade(server, start_server, wait_until)
    words = [sys.executable, "-m", "cachekeep", "backup", "guard", server.url, "place", "--json"]
    with ticking(server), command(words, tmp_path) as process:
        seen(process, "upgrade now")
        upgrade.crash()
        upgrade.start("9.1")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    page = json.loads(out)
    assert (page["verdict"], page["restored"]) == ("different", None)
    assert page["found"]["counts"]["lost"] >= len(BULK) + 1
    assert {"db": 0, "key": "bulk:0"} in page["found"]["named"]["lost"]
    assert "Traceback" not in err


def test_a_command_that_fails_is_reported_and_the_endpoint_judged_all_the_same(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("SET", "key", "value")
    words = [sys.executable, "-m", "cachekeep", "backup", "guard", server.url, "place"]
    with ticking(server), command([*words, "--", "false"], tmp_path) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "nothing is missing" in out
    assert "exit code 1" in out
    assert "never away" in out
    with command([*words, "--", "no-such-command"], tmp_path) as process:
        assert "no-such-command is no command here" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


@contextmanager
def command(words: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, which does not outlive its test."""
    piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def heed_hangups() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it (nohup)

    with subprocess.Popen(words, cwd=folder, text=True, preexec_fn=heed_hangups, **piped) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_password_of_the_url_is_never_shown(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    acl = "user default on nopass ~* &* +@all\nuser me on >correct-horse ~* &* +@all\n"
    server = start_server("9.1", users=acl)
    write_bulk(server, "value")
    upgrade, url = Upgrade(server, start_server, wait_until), f"redis://me:correct-horse@{server.host}:{server.port}"
    with command([*GUARD, url, "place"], tmp_path) as process:
        said = seen(process, "upgrade now")
        upgrade.crash()
        upgrade.start("9.1", "--aclfile", str(server.folder / "users.acl"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    assert f"cachekeep backup restore place {server.url} --id" in out
    with command([*GUARD, f"{url}/3", "place"], tmp_path) as process:
        refused = process.communicate(timeout=60)[1]
    assert "names database 3" in refused
    assert "correct-horse" not in said + out + err + refused


def test_a_terminal_that_is_closed_does_not_say_that_the_upgrade_is_done(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    with command([*GUARD, start_server("9.1").url, "place"], tmp_path) as process:
        seen(process, "upgrade now")
        process.send_signal(signal.SIGHUP)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert "said to be done" not in err


def test_a_command_that_ignores_being_asked_to_end_is_killed_by_the_second_signal(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    deaf = "trap '' TERM INT; sleep 600 & echo $! > child; touch ready; wait; wait; sleep 600"
    with command([*GUARD, start_server("9.1").url, "place", "--", "sh", "-c", deaf], tmp_path) as process:
        wait_until((tmp_path / "ready").exists, "the command runs")
        process.send_signal(signal.SIGINT)
        seen(process, "asked to end and is waited for")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert "sh was ended by signal 9" in err
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    wait_until(lambda: not child.exists() or ") Z " in child.read_text(), "its own child is gone too")


@pytest.mark.slow
def test_the_exit_code_of_a_command_is_told_although_the_source_stays_away(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    words = [*GUARD, server.url, "place", "--patience", "1", "--", "sh", "-c", f"kill -9 {server.pid}; sleep 3; exit 7"]
    with command(words, tmp_path) as process:
        err = process.communicate(timeout=120)[1]
    assert process.returncode == 4, err
    ended, told = err.index("the capture has ended: "), err.index("sh ended with exit code 7")
    assert ended < told


def seen(process: subprocess.Popen[str], words: str) -> str:
    """What it said on stderr up to the line that has these words, or all that it ever said."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it never said {words!r}: {said}")
