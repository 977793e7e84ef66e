"""`cachekeep backup guard` as a user calls it: a process of its own, a signal that says done, its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guarding import BULK, Upgrade, ticking, write_bulk


def test_the_command_waits_for_a_signal_and_ends_with_5_when_keys_are_missing(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("SET", "lost", "value")
    write_bulk(server, "value")
    upgrade = Upgrade(server, start_server, wait_until)
    words = [sys.executable, "-m", "cachekeep", "backup", "guard", server.url, "place", "--json"]
    with ticking(server), command(words, tmp_path) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "upgrade now" in line)
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


def command(words: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
