"""The commands on backups of followed sources: moments are told, restored, exported by this machine's clock."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import keys_of
from followed import T0, VERSION, Story, gone, string
from wrong_clock import WrongClock

from cachekeep.backup.coverage import moment_text
from cachekeep.cli.main import main
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.resp import pack

LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return {} end)"
DONE, FAILED, MISUSE, GAPS, DIFFERENT = 0, 1, 2, 4, 5


@pytest.fixture
def backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`backup("list", "place") -> (code, stdout, stderr)`, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["backup", *words])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return call


def ours(after: int, ahead_ms: int = 60_000) -> str:
    return moment_text(T0 + after - ahead_ms)


def test_the_commands_tell_and_restore_moments_by_this_machines_clock(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, target, t = pair
    story = Story(tmp_path / "place", source, ahead_ms=60_000).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).gap(100, 200, "the source was restarted")
    story.add("changes", string(c, b"a", 2, 200), (200, 300))

    code, listed, _ = backup("list", "place")
    assert code == DONE
    assert "open" in listed
    assert f"covers 2 parts of {ours(0)} to {ours(300)}, 1 gap" in listed
    code, shown, _ = backup("show", "place")
    assert code == DONE
    for line in (
        "follow   tracking",
        "limit    sees no dreams",
        "60.0 s ahead of this machine's",
        f"covers   {ours(0)} to {ours(100)}",
        f"gap      {ours(100)} to {ours(200)}: the source was restarted",
        f"latest   {ours(300)}",
        "follow   tracking, being followed (last sign ",
        "segments #2 to #3 each end at a moment: --at '#3'",
    ):
        assert line in shown
    assert "only" not in shown
    assert "; being followed (last sign " in listed
    story.writer.log([{"event": "sealed", "at_ms": time.time_ns() // 1_000_000 + 5000}])
    code, shown, _ = backup("show", "place")
    assert "follow   tracking, stopped, sealed" in shown
    assert re.search(r"log +sealed 20\d\d-\d\d-\d\dT[\d:]+Z\n", shown)
    assert "at_ms" not in shown
    assert "; stopped, sealed" in backup("list", "place")[1]
    page = json.loads(backup("show", "place", "--json")[1])
    assert [(one["since"], one["until_ms"]) for one in page["covered"]] == [(ours(0), T0 + 100), (ours(200), T0 + 300)]
    assert [one["reason"] for one in page["uncovered"]] == ["the source was restarted"]
    assert json.loads(backup("list", "place", "--json")[1])[0]["latest"] == ours(300)

    code, said, _ = backup("restore", "place", target.url, "--at", ours(70))
    assert code == DONE
    assert f"as of {ours(70)}" in said
    assert "expiries were moved" in said
    assert t.execute_command("GET", "a") == b"1"
    code, _, refused = backup("restore", "place", target.url, "--at", ours(150))
    assert code == FAILED
    assert "the source was restarted" in refused
    assert f"--at {ours(100)} or --at {ours(200)}" in refused
    assert backup("restore", "place", target.url, "--at", "5 o'clock")[0] == MISUSE
    assert backup("restore", "place", target.url, "--at", "#2", "--json")[0] == DONE
    code, _, absent = backup("restore", "place", target.url, "--at", f"{story.name}/00000002", "--key", "n\u00f6")
    assert code == FAILED
    assert f"has no key n\u00f6 as of {ours(100)}; nothing was written" in " ".join(absent.split())
    assert backup("restore", "place", target.url, "--at", "now", "--dry-run")[0] == DONE
    code, out, _ = backup("restore", "place", target.url, "--json")
    assert (code, json.loads(out)["at"], json.loads(out)["at_ms"]) == (DONE, ours(300), T0 + 300)
    assert t.execute_command("GET", "a") == b"2"

    assert backup("diff", "place", target.url, "--at", "latest")[0] == DONE
    assert backup("diff", "place", target.url, "--at", ours(0))[0] == DIFFERENT
    code, proof, _ = backup("verify", "place", "--deep", "--at", ours(50))
    assert code == DONE, proof
    assert f"proved, as of {ours(50)}" in proof
    assert backup("verify", "place")[0] == DONE


def test_one_key_of_a_moment_goes_to_a_file_or_to_another_name(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, target, t = pair
    base = string(c, b"\xff*", "then", -9) + string(c, b"user:1", "u", -8)
    story = Story(tmp_path / "place", source).add("base", base, db=0)
    story.add("changes", [*string(c, b"\xff*", "later", 50), gone(b"user:1", 60)], (0, 100))
    when = ("--at", moment_text(T0 + 10))
    assert backup("restore", "place", target.url, *when, "--key", r"\xff*", "--as", r"saved\n")[0] == DONE
    assert {key: t.execute_command("GET", key) for key in keys_of(t)} == {b"saved\n": b"then"}
    assert backup("restore", "place", target.url, *when, "--match", "user:*")[0] == DONE
    assert keys_of(t) == [b"saved\n", b"user:1"]
    for wrong in (("--as", "x"), ("--key", "a", "--match", "b"), ("--key", r"\q")):
        assert backup("restore", "place", target.url, *when, *wrong)[0] == MISUSE
    for gone_there in (("--key", "user:1"), (*when, "--key", "user:1", "--db", "1")):
        code, _, absent = backup("restore", "place", target.url, *gone_there)
        assert code == FAILED
        assert "has no key" in absent
    code, out, _ = backup("export", "place", "out", "--format", "json", *when, "--key", "b64:/yo=", "--json")
    assert code == DONE
    assert json.loads(out)["report"]["written"] == {"0": 1}
    code, out, _ = backup("export", "place", "all", "--format", "resp", "--match", "user:*", *when, "--json")
    assert json.loads(out)["report"]["written"] == {"0": 1}
    assert backup("export", "place", "none", "--format", "json", "--key", "nobody")[0] == FAILED
    assert not (tmp_path / "none").exists()


def test_a_stream_is_exported_up_to_a_moment_for_the_engine_itself(
    start_server: Callable[..., Any], tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source = start_server(VERSION, "--dbfilename", "own.rdb")
    source.ask("SET", "a", 0)
    source.ask("SAVE")
    story = Story(tmp_path / "place", source, "psync")
    data = (source.folder / "own.rdb").read_bytes()
    story.add("rdb", [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 - 9, b"", data)])
    commands = [(10, pack("SELECT", 0) + pack("SET", "a", 1)), (60, pack("SET", "a", 2)), (160, pack("SET", "a", 3))]
    pieces = [Record(int(Kind.PIECE), 0, NO_EXPIRY, T0 + after, b"", one) for after, one in commands]
    story.add("commands", pieces, (0, 100))
    for number, (words, value) in enumerate(((("--at", moment_text(T0 + 50)), b"1"), ((), b"2"))):
        folder = f"out-{number}"
        code, said, _ = backup("export", "place", folder, "--format", "aof", *words)
        assert code == DONE
        assert str(folder) in said
        loaded = start_server(VERSION, "--appendonly", "yes", "--dir", str(tmp_path / folder))
        assert loaded.ask("GET", "a") == value
    assert backup("export", "place", "out", "--format", "aof", "--key", "a")[0] == MISUSE
    code, _, refused = backup("export", "place", "out", "--format", "aof", "--at", moment_text(T0 + 150))
    assert code == FAILED
    assert "cannot be restored" in refused


def test_a_capture_of_a_source_with_another_clock_tells_moments_that_can_be_restored(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]], fresh_address: Callable[..., Any]
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "a", 1)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with WrongClock.before(fresh_address().host, source, 3600.0) as door:
        words = ("backup", "run", door.url, "place", "--follow", "--json", "--source", "tracking", "--max-lag", "1s")
        with subprocess.Popen(
            [sys.executable, "-m", "cachekeep", *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            changed_ms, last = None, dict[str, Any]()
            for line in process.stdout:
                last = json.loads(line)
                if last["event"] != "status" or last["covered_until_ms"] is None:
                    continue
                if changed_ms is None:
                    c.execute_command("SET", "a", 2)
                    changed_ms = time.time_ns() // 1_000_000
                elif (last["durable_until_ms"] or 0) > changed_ms:
                    assert last["durable_until_ms"] < time.time_ns() // 1_000_000 + 5000
                    process.send_signal(signal.SIGINT)
        assert process.returncode == DONE
    assert last["event"] == "sealed"
    ((since_ms, until_ms),) = last["stretches"]
    assert last["began_ms"] <= since_ms < changed_ms < until_ms == last["latest_ms"]
    page = json.loads(backup("show", "place", "--json")[1])
    assert page["clock_ahead_ms"] > 3_590_000
    assert [(one["since"], one["until"]) for one in page["covered"]] == [(moment_text(since_ms), moment_text(until_ms))]
    assert page["capture"]["state"] == "sealed"
    assert backup("restore", "place", target.url, "--at", moment_text(until_ms))[0] == DONE
    assert t.execute_command("GET", "a") == b"2"


def test_a_capture_that_gave_no_sign_is_not_called_followed(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, c, _, _ = pair
    monkeypatch.setattr(time, "time_ns", lambda: T0 * 1_000_000)
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for days, said in ((0.25, "or waiting for its source"), (3.01, "stopped without sealing (last sign 3 d 0 h ago)")):
        now = round((T0 + days * 86_400_000) * 1_000_000)
        with monkeypatch.context() as later:
            later.setattr(time, "time_ns", lambda now=now: now)
            assert said in backup("show", "place")[1]
            page = json.loads(backup("list", "place", "--json")[1])[0]
        assert page["capture"]["state"] in ("silent", "lost")
        assert page["capture"]["last_sign"] == "2026-11-22T21:00:00Z"
    assert "no gaps" in backup("show", "place")[1]
    assert ", no gaps; stopped" in backup("list", "place")[1]


def test_a_polled_backup_tells_its_recovery_point(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, _, _ = pair
    story = Story(tmp_path / "place", source, "poll").add("base", string(c, b"a", 0, -9), db=0)
    for moment in (0, 40_000, 55_200):
        story.add("changes", [], (moment, moment))
    assert "recovery point: at most 40 s" in backup("show", "place")[1]
    assert "3 moments of" in backup("list", "place")[1]
    assert json.loads(backup("show", "place", "--json")[1])["recovery_point_ms"] == 40_000


def test_a_gap_that_goes_on_is_shown_until_now(
    pair: Any, tmp_path: Path, backup: Callable[..., tuple[int, str, str]]
) -> None:
    source, c, target, _ = pair
    story = Story(tmp_path / "place", source).add("base", string(c, b"a", 0, -9), db=0)
    story.add("changes", string(c, b"a", 1, 50), (0, 100)).gap(100, None, "the source is gone")
    assert f"gap      {ours(100, 0)} to now: the source is gone" in backup("show", "place")[1]
    code, _, refused = backup("restore", "place", target.url, "--at", "-1ms")
    assert code == FAILED
    assert "the source is gone" in refused
    assert time.time_ns() // 1_000_000 > T0, "the story is of the past"
