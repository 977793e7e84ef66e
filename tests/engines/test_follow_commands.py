"""`cachekeep backup run --follow` as a user calls it: a process of its own, lines, metrics, its end by signals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cachekeep.cli.backup.follow_view import moment_of
from cachekeep.cli.main import main

PASSWORD = "correct-horse-battery"
AT_ONCE = ("--repl-diskless-sync-delay", "0")
DONE, FAILED, MISUSE, GAPS, DIFFERENT = 0, 1, 2, 4, 5
WITHIN_S = 60.0
_COLOURS = re.compile(rb"\x1b\[[0-9;]*m")


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def page(self) -> Any:
        return json.loads(self.out)


class Following:
    """A running `backup run --follow`. Its lines on both streams are taken as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,))
            for lines, stream in ((self.out, process.stdout), (self.err, process.stderr))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.out.copy() if line.endswith("\n")]
        return [one for one in told if kind in (None, one["event"])]

    def last(self) -> dict[str, Any]:
        """The last status; fails when the process has ended."""
        code = self.process.poll()
        assert code is None, f"it ended with {code}: {''.join(self.err)}"
        return next(iter(reversed(self.events("status"))), {})

    def end(self, number: int = signal.SIGTERM) -> Ended:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> Ended:
        code = self.process.wait(WITHIN_S)
        for reader in self._readers:
            reader.join()
        out, err = "".join(self.out), "".join(self.err)
        assert "Traceback" not in err, err
        return Ended(code, out, err)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


@pytest.fixture
def backup(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Ended]:
    """`backup("restore", folder, url)`, to its end."""

    def call(*words: str | Path) -> Ended:
        command = [sys.executable, "-m", "cachekeep", "backup", *map(str, words)]
        ended = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=2 * WITHIN_S
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return call


@pytest.fixture
def start_following(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Following]]:
    """`start_following(url, folder, "--json", ..., stderr=..., stdout=...)`; killed at the end of the test."""
    with ExitStack() as stack:

        def start(*words: str | Path, **options: Any) -> Following:
            command = [sys.executable, "-m", "cachekeep", "backup", "run", *map(str, words), "--follow"]
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
            process = stack.enter_context(
                subprocess.Popen(command, env=environment, cwd=tmp_path, text=True, **streams)
            )
            following = Following(process)
            stack.callback(_stopped, following)
            return following

        yield start


def _stopped(following: Following) -> None:
    if following.process.poll() is None:
        following.process.kill()
        following.ended()


def server_ms(server: Any) -> int:
    seconds, micros = server.ask("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def filled(server: Any, keys: int = 50) -> None:
    server.ask("EVAL", "for i = 1, ARGV[1] do redis.call('SET', 'key:' .. i, i) end", 0, keys)
    server.ask("HSET", "a hash", "f", "v")
    server.ask("ZADD", "scores", 1, "m", db=3)


def changed(server: Any, word: str) -> None:
    server.ask("SET", f"new {word}", word)
    server.ask("SET", "key:1", f"changed {word}")
    server.ask("DEL", "key:2", f"of {word}")
    server.ask("RENAME", "a hash", "another hash") if server.ask("EXISTS", "a hash") else None
    server.ask("ZADD", "scores", 2, word, db=3)
    server.ask("PEXPIREAT", "key:3", 4_000_000_000_123)


def durable_after(following: Following, moment_ms: int) -> Callable[[], bool]:
    """Is everything up to then in the backup, without a gap?"""

    def ask() -> bool:
        last = following.last()
        until = last.get("durable_until_ms")
        return last.get("covered_since_ms") is not None and until is not None and until > moment_ms

    return ask


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def figures(url: str) -> dict[str, float]:
    _, text = get(url)
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


@pytest.mark.parametrize(
    ("version", "method"),
    [
        pytest.param("9.1", "psync", marks=pytest.mark.slow),
        ("9.1", "tracking"),
        pytest.param("7.0", "psync", marks=pytest.mark.slow),
        pytest.param("6.2", "tracking", marks=pytest.mark.slow),
        pytest.param("8.1", "keyspace", marks=pytest.mark.slow),
        pytest.param("7.0", "poll", marks=pytest.mark.slow),
    ],
)
def test_a_capture_is_sealed_by_a_signal_gone_on_with_and_restored(
    start_server: Callable[..., Any],
    backup: Callable[..., Ended],
    start_following: Callable[..., Following],
    wait_until: Callable[..., Any],
    version: str,
    method: str,
) -> None:
    source, target = start_server(version, *AT_ONCE), start_server("9.1", *AT_ONCE)
    if method == "keyspace":
        source.ask("CONFIG", "SET", "notify-keyspace-events", "AE")
    filled(source)
    generations = []
    for number, word in enumerate(("first", "second")):
        following = start_following(source.url, "place", "--json", "--source", method, "--max-lag", "1s")
        wait_until(lambda f=following: f.last().get("covered_until_ms"), "everything is copied", WITHIN_S)
        changed(source, word)
        moment_ms = server_ms(source)
        wait_until(durable_after(following, moment_ms), "the changes are durable", WITHIN_S)
        ended = following.end(signal.SIGTERM if number else signal.SIGINT)
        assert ended.code == DONE, ended.out + ended.err
        told = following.events()
        assert [told[0]["event"], told[-1]["event"]] == ["choice", "sealed"]
        assert told[0]["method"] == method
        assert told[0]["limits"]
        sealed = told[-1]
        assert sealed["continuous"] is (method != "poll")
        (shown,) = backup("show", "place", "--json").page["covered"][-1:]
        assert sealed["stretches"][-1][1] == sealed["latest_ms"]
        assert moment_of(sealed["latest_ms"], exact=True) == shown["until"]
        assert sealed["stretches"][-1][1] > moment_ms
        generations.append(sealed["generations"][-1])
        assert backup("list", "place", "--json").page[-1]["status"] == "open"
    assert generations[0] == generations[1]
    at = sealed["stretches"][-1][1]
    restored = backup("restore", "place", target.url, "--at", moment_of(at, exact=True))
    assert restored.code == DONE, restored.out + restored.err
    compared = backup("diff", source.url, target.url)
    assert compared.code == DONE, compared.out + compared.err


def test_metrics_tell_while_keys_change_and_health_when_the_source_is_gone(
    start_server: Callable[..., Any], start_following: Callable[..., Following], wait_until: Callable[..., Any]
) -> None:
    source = start_server("9.1", *AT_ONCE)
    filled(source)
    following = start_following(
        *(source.url, "place", "--json", "--source", "tracking", "--max-lag", "1s"),
        *("--metrics-port", "0", "--patience", "3s"),
    )
    url = wait_until(lambda: following.last() and following.events("choice")[0]["metrics_url"], "it is chosen")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
    health = url.removesuffix("metrics") + "healthz"
    wait_until(lambda: "cachekeep_backup_read_until_timestamp_seconds" in figures(url), "covered", WITHIN_S)
    assert get(health)[0] == 200
    seen = [figures(url)]
    for number in range(3):
        for key in range(20):
            source.ask("SET", f"churn:{number}:{key}", key)
        so_far = (number + 1) * 20
        wait_until(
            lambda so_far=so_far: figures(url)["cachekeep_backup_changes_total"] >= so_far, "changes are counted"
        )
        seen.append(figures(url))
    for name in ("changes_total", "stored_bytes_total", "read_until_timestamp_seconds", "uptime_seconds"):
        values = [one[f"cachekeep_backup_{name}"] for one in seen]
        assert values == sorted(values), name
        assert values[-1] > values[0], name
    assert abs(seen[-1]["cachekeep_backup_read_until_timestamp_seconds"] - server_ms(source) / 1000) < WITHIN_S
    source.stop()
    code, text = wait_until(lambda: (told := get(health)) and told[0] == 503 and told, "unhealthy")
    assert (code, text.partition(":")[0]) == (503, "away")
    ended = following.ended()
    assert ended.code == FAILED
    assert source.host in ended.err
    assert following.events()[-1]["event"] == "failed"
    with pytest.raises(urllib.error.URLError):
        get(health)


def test_without_a_terminal_lines_tell_how_it_goes_and_a_summary_how_to_restore(
    start_server: Callable[..., Any],
    backup: Callable[..., Ended],
    start_following: Callable[..., Following],
    wait_until: Callable[..., Any],
) -> None:
    source, target = start_server("9.1", *AT_ONCE), start_server("9.1", *AT_ONCE)
    filled(source)
    following = start_following(source.url, "place", "--source", "tracking")
    wait_until(
        lambda: (
            following.process.poll() is None and [line for line in following.err.copy() if " following by " in line]
        ),
        "a line says that it follows",
        WITHIN_S,
    )
    ended = following.end(signal.SIGINT)
    assert ended.code == DONE, ended.out + ended.err
    assert ended.err.startswith("following ")
    assert "limit: " in ended.err
    assert "continuity proved" in ended.out
    assert "goes on" in ended.out
    (command,) = re.findall(r"cachekeep (backup restore .*)", ended.out)
    restored = backup(*command.replace("TARGET", target.url).split()[1:])
    assert restored.code == DONE, restored.out + restored.err
    assert target.ask("GET", "key:7") == b"7"


def test_on_a_terminal_a_table_is_drawn(
    start_server: Callable[..., Any],
    start_following: Callable[..., Following],
    wait_until: Callable[..., Any],
    environment: dict[str, str],
) -> None:
    source = start_server("9.1", *AT_ONCE)
    filled(source)
    environment.update(TERM="xterm", COLUMNS="120")
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # nobody has it open for writing any more
            while data := os.read(ours, 65_536):
                shown.append(data)

    reader = threading.Thread(target=read)
    try:
        following = start_following(source.url, "place", "--source", "tracking", stderr=theirs)
        os.close(theirs)
        reader.start()
        wait_until(lambda: re.search(rb"read until +20\d\d-", _COLOURS.sub(b"", b"".join(shown))), "a table", WITHIN_S)
        ended = following.end()
        assert ended.code == DONE, ended.out
        reader.join()
    finally:
        os.close(ours)
    assert b"\x1b[?25l" in b"".join(shown)  # the cursor is hidden while it lives
    assert b"".join(shown).rindex(b"\x1b[?25h") > 0  # and comes back


def test_a_program_that_takes_no_more_lines_ends_the_capture_sealed(
    start_server: Callable[..., Any],
    backup: Callable[..., Ended],
    start_following: Callable[..., Following],
) -> None:
    source = start_server("9.1", *AT_ONCE)
    filled(source)
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines:
        following = start_following(source.url, "place", "--source", "tracking", "--json", stdout=writing)
        os.close(writing)
        for line in lines:
            if json.loads(line).get("covered_since_ms") is not None:
                break
    ended = following.ended()
    assert ended.code == FAILED
    assert "nobody reads" in ended.err
    assert backup("list", "place", "--json").page[-1]["status"] == "open"


def test_a_capture_that_is_stopped_while_it_copies_promises_nothing_and_goes_on(
    start_server: Callable[..., Any], start_following: Callable[..., Following], wait_until: Callable[..., Any]
) -> None:
    source = start_server("9.1", *AT_ONCE)
    filled(source, 20_000)
    words = (source.url, "place", "--json", "--source", "tracking")
    following = start_following(*words, "--max-keys-per-s", "2000")
    wait_until(lambda: following.last().get("keys"), "some keys are copied", WITHIN_S)
    ended = following.end()
    assert ended.code == GAPS, ended.out + ended.err
    stopped = following.events("sealed")[0]
    assert (stopped["stretches"], stopped["continuous"]) == ([], False)
    following = start_following(*words)
    wait_until(lambda: following.last().get("covered_until_ms"), "everything is copied", WITHIN_S)
    assert following.end().code == DONE
    sealed = following.events("sealed")[0]
    assert sealed["generations"] == stopped["generations"]
    assert sealed["stretches"]


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    """`called("doctor", url)`: the same in this process, which is sooner there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CACHEKEEP_SOURCE_PASSWORD", PASSWORD)

    def call(*words: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(["backup", *map(str, words)])
        code, (out, err) = ended.value.code, capsys.readouterr()
        assert code is None or isinstance(code, int)
        return Ended(code or DONE, out, err)

    return call


def users_with(rights: str) -> str:
    return f"user default on nopass ~* &* +@all\nuser app on >{PASSWORD} ~* &* {rights}\n"


def test_a_database_in_the_url_is_refused(
    start_server: Callable[..., Any], called: Callable[..., Ended], tmp_path: Path
) -> None:
    source = start_server("9.1", users=users_with("+@all"))
    ended = called("run", f"{source.url}/3", "place", "--follow", "--user", "app")
    assert ended.code == MISUSE
    assert "database 3" in ended.err
    assert not (tmp_path / "place").exists()


def test_what_was_asked_for_and_cannot_be_is_refused_with_the_servers_reason(
    start_server: Callable[..., Any], called: Callable[..., Ended]
) -> None:
    source = start_server("9.1", "--notify-keyspace-events", "", users=users_with("+@all"))
    ended = called("run", source.url, "place", "--follow", "--source", "keyspace", "--user", "app")
    assert ended.code == FAILED
    assert "notify-keyspace-events" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


NO_PSYNC = "+@all -psync -sync"


@pytest.mark.parametrize(
    ("rights", "notifications", "chosen", "denied"),
    [
        ("+@all", "", "psync", {"keyspace"}),
        (NO_PSYNC, "AE", "tracking", {"psync"}),
        (f"{NO_PSYNC} -client|tracking", "AE", "keyspace", {"psync", "tracking"}),
        (f"{NO_PSYNC} -client|tracking", "", "poll", {"psync", "tracking", "keyspace"}),
        (f"{NO_PSYNC} -client|tracking -dump", "", None, {"psync", "tracking", "keyspace", "poll"}),
    ],
)
def test_the_doctor_says_which_ways_of_following_there_are(
    start_server: Callable[..., Any],
    called: Callable[..., Ended],
    rights: str,
    notifications: str,
    chosen: str | None,
    denied: set[str],
) -> None:
    source = start_server("9.1", *AT_ONCE, "--notify-keyspace-events", notifications, users=users_with(rights))
    follow = called("doctor", source.url, "--user", "app", "--json").page["follow"]
    assert [rung["method"] for rung in follow["ladder"]] == ["psync", "tracking", "keyspace", "poll"]
    assert {rung["method"] for rung in follow["ladder"] if rung["possible"] == "no"} == denied
    assert all(rung["reason"] for rung in follow["ladder"] if rung["method"] in denied)
    assert follow["method"] == chosen
    assert follow["why"]
    said = called("doctor", source.url, "--user", "app")
    assert said.code == DONE
    assert (f"--follow takes {chosen}" if chosen else "cannot be followed") in said.out
    possible = [rung for rung in follow["ladder"] if rung["possible"] == "yes"]
    for rung in possible:
        assert rung["limits"]
        assert said.out.count(f"limit of {rung['method']}:") == len(rung["limits"])
    assert [list(rung["limits"]) for rung in possible if rung["method"] == chosen] == [follow["limits"]][: bool(chosen)]
    assert ("guard takes tracking first" in said.out) == bool({"tracking", "keyspace"} - denied)
    assert bool(follow["limits"]) == bool(chosen)
