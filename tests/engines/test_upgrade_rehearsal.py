"""A real upgrade: Redis 7.0 becomes Valkey 9.1 behind one address while a client writes, guarded by the command.

The truth is the writer's ledger: what the server acknowledged, deletions included. The writer shares nothing with the
product, and repeats what was not acknowledged until it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from guarding import TICK, Upgrade, captured, guarded, ticking

KEYS = 400
_WRITER = """
import json, random, sys, threading, time, valkey
host, port, keys, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
ledger, go, end, idle = {}, threading.Event(), threading.Event(), threading.Event()
go.set()

def acknowledged(client, words):
    while not end.is_set():
        try:
            return client.execute_command(*words)
        except valkey.ValkeyError:
            client.connection_pool.disconnect()
            time.sleep(0.2)
    raise SystemExit("not acknowledged")

def run():
    random.seed(4)
    client, number = valkey.Valkey(host=host, port=port, socket_timeout=5), 0
    while not end.is_set():
        if not go.is_set():
            idle.set()
            go.wait(0.05)
            continue
        idle.clear()
        number += 1
        name, kind = f"key:{random.randrange(keys)}", random.randrange(10)
        held = ledger.get(name)
        if kind < 2 and held is not None:
            acknowledged(client, ("UNLINK", name)); ledger.pop(name)
        elif kind < 5 and isinstance(held, dict) or held is None and kind > 7:
            field = f"f{random.randrange(20)}"
            acknowledged(client, ("HSET", name, field, str(number)))
            ledger[name] = {**(held or {}), field: str(number)}
        else:
            acknowledged(client, ("SET", name, str(number))); ledger[name] = str(number)
        time.sleep(1 / rate)

thread = threading.Thread(target=run); thread.start()
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "pause":
        go.clear(); idle.clear(); idle.wait()
    elif word == "go":
        go.set()
    elif word == "stop":
        go.clear(); idle.clear(); idle.wait(); end.set()
        break
    print(json.dumps(len(ledger)), flush=True)
thread.join()
print(json.dumps(ledger), flush=True)
"""
# Stops the old server, which saves its data, and starts the new one at the same address with that file.
_UPGRADE = """
import os, socket, subprocess, sys, time
program, host, port, folder, pid_file = sys.argv[1:]

def ask(words):
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        plain.sendall(words + b"\\r\\n")
        return plain.recv(64)

def is_there():
    try:
        return ask(b"PING").startswith(b"+PONG")
    except OSError:
        return False

ask(b"SHUTDOWN SAVE")
deadline = time.monotonic() + 30
while is_there():
    assert time.monotonic() < deadline
    time.sleep(0.01)
words = [program, "--bind", host, "--port", port, "--dir", folder, "--save", "", "--protected-mode", "no"]
with open(os.path.join(folder, "new.log"), "wb") as log:
    new = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
with open(pid_file, "w") as file:
    file.write(str(new.pid))
while not is_there():
    assert new.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
print("upgraded")
"""


class Writer:
    """A process that writes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()

    def pause(self) -> None:
        """Returns when everything that was begun is acknowledged."""
        self._say("pause")

    def go(self) -> None:
        self._say("go")

    def stop(self) -> dict[str, Any]:
        """The ledger."""
        return dict(self._say("stop"))

    def _say(self, word: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def writing(server: Any, rate: float) -> Iterator[Writer]:
    words = [sys.executable, "-c", _WRITER, server.host, str(server.port), str(KEYS), str(rate)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


def differences(server: Any, ledger: dict[str, Any]) -> list[str]:
    """Keys that are not as the ledger says, by the server's own commands."""
    there = {key.decode() for key in server.ask("KEYS", "key:*")}
    wrong = sorted(there ^ set(ledger))
    for name in there & set(ledger):
        wanted = ledger[name]
        if isinstance(wanted, dict):
            flat = server.ask("HGETALL", name) if server.ask("TYPE", name) == b"hash" else []
            held: Any = {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}
        else:
            held = server.ask("GET", name).decode() if server.ask("TYPE", name) == b"string" else None
        if held != wanted:
            wrong.append(f"{name}: {held!r} instead of {wanted!r}")
    return wrong


def test_redis_7_becomes_valkey_9_under_load_with_nothing_missing(
    start_server: Callable[..., Any], install_of: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server, pid_file = start_server("7.0"), tmp_path / "new.pid"
    script = tmp_path / "upgrade.py"
    script.write_text(_UPGRADE)
    program = str(install_of("9.1").program)
    words = [sys.executable, "-m", "cachekeep", "backup", "guard", server.url, "place", "--yes", "--json"]
    words += ["--", sys.executable, script, program, server.host, str(server.port), server.folder, pid_file]
    try:
        with writing(server, 300) as writer:
            wait_until(lambda: server.ask("DBSIZE") > KEYS // 4, "the writer has written")
            ended = subprocess.run(
                [str(word) for word in words], cwd=tmp_path, capture_output=True, text=True, timeout=120
            )
            ledger = writer.stop()
        page = json.loads(ended.stdout)
        assert page["command"] == 0
        assert (ended.returncode, page["verdict"]) == (0, "proved") or deleted_unheard(page), (
            ended.stderr + ended.stdout
        )
        assert (page["before"].split()[0], page["after"].split()[0]) == ("Redis", "Valkey")
        assert page["downtime_ms"] > 0
        assert "upgraded" in ended.stderr  # what the command says passes through, beside the page
        assert len(ledger) > KEYS // 4
        assert differences(server, ledger) == []
    finally:
        if pid_file.exists():
            with suppress(ProcessLookupError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_writes_that_the_upgrade_lost_are_put_back_and_nothing_else(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    """The new server starts with a file that is older than the last acknowledged writes.

    The writer waits meanwhile: what it would do with a key that is missing, nobody could tell from what was lost.
    """
    server = start_server("7.0")
    upgrade, place = Upgrade(server, start_server, wait_until), tmp_path / "place"
    with writing(server, 300) as writer:
        wait_until(lambda: server.ask("DBSIZE") > KEYS // 4, "the writer has written")

        def lose() -> None:
            writer.pause()
            server.ask("SET", "first mark", 1)
            captured(place, 0, b"first mark", wait_until)
            upgrade.save(tmp_path / "old.rdb")
            writer.go()
            wait_until(lambda: changes(server) >= 150, "150 changes that the file does not have")
            writer.pause()
            server.ask("SET", "second mark", 1)
            captured(place, 0, b"second mark", wait_until)
            with quiet:
                upgrade.crash()
                upgrade.start("9.1", rdb=tmp_path / "old.rdb")
                upgrade.listened_to()

        with ticking(server) as quiet:
            report = guarded(server, place, lose)
        writer.go()
        ledger = writer.stop()
    assert report.verdict == "proved", report
    assert report.restored is not None
    assert report.restored.written > 50
    assert report.restored.refused == ()
    assert (0, b"second mark") in report.found["lost"]
    assert report.found["changed"] <= {(0, TICK)}
    assert (report.before, report.after) == ("Redis 7.0.15", "Valkey 9.1.2")
    assert differences(upgrade.server, ledger) == []


def deleted_unheard(page: dict[str, Any]) -> bool:
    """The one excuse: a client was quicker than anybody could listen, and deleted. Then nothing is put back."""
    return page["restored"] is None and "may be what they deleted" in page["why"][0]


def changes(server: Any) -> int:
    """Since its last save."""
    lines = server.ask("INFO", "persistence").splitlines()
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"rdb_changes_since_last_save:"))


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(5))
def test_the_upgrade_is_repeated_under_more_load(
    start_server: Callable[..., Any],
    install_of: Callable[..., Any],
    wait_until: Callable[..., Any],
    tmp_path: Path,
    round_: int,
) -> None:
    """Whatever the guard says of it, no acknowledged write is missing and no deleted key is back."""
    server = start_server("7.0")
    upgrade = Upgrade(server, start_server, wait_until)
    with writing(server, 3000) as writer:
        wait_until(lambda: server.ask("DBSIZE") > KEYS // 4, "the writer has written")
        report = guarded(server, tmp_path / "place", lambda: upgrade.swap("9.1"))
        ledger = writer.stop()
    assert report.verdict == "proved" or "may be what they deleted" in report.why[0], report
    assert differences(upgrade.server, ledger) == []
