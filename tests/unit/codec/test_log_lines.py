"""Log lines as AWS has them, and what never stands in one."""

from __future__ import annotations

import json
import time

import pytest

from cachekeep.codec.log_lines import (
    WITHHELD,
    EngineLine,
    engine_line,
    parse_engine_line,
    slow_entry,
    slow_line,
    utc_text,
)
from cachekeep.domain.log_delivery import LogFormat, SlowEntry

BEFORE = EngineLine(5, "S", "#", "before")


def test_the_guides_own_examples_of_a_slow_log_entry() -> None:
    entry = SlowEntry(296, 1605631822, 30, "GET", 1, "192.168.12.104:55452", "logslowxxxxmsxj##")
    assert json.loads(slow_line("logslowxxxxmsxj", "0001", entry, LogFormat.JSON).text) == {
        "CacheClusterId": "logslowxxxxmsxj",
        "CacheNodeId": "0001",
        "Id": 296,
        "Timestamp": 1605631822,
        "Duration (us)": 30,
        "Command": "GET ... (1 more arguments)",
        "ClientAddress": "192.168.12.104:55452",
        "ClientName": "logslowxxxxmsxj##",
    }
    line = slow_line("logslowxxxxmsxj", "0001", entry, LogFormat.TEXT)
    assert line.text == (
        "logslowxxxxmsxj,0001,1605631822,30,GET ... (1 more arguments),192.168.12.104:55452,logslowxxxxmsxj##"
    )
    assert line.at_ms == 1605631822000


def test_the_guides_own_example_of_an_engine_log_line() -> None:
    at = 1603999940499
    line = EngineLine(at, "M", "*", "A slow-running Lua script detected")
    text = engine_line("zy-test", "0001", line, LogFormat.TEXT).text
    assert text == "zy-test/0001:M 29 Oct 2020 19:32:20.499 UTC * A slow-running Lua script detected"
    assert json.loads(engine_line("zy-test", "0001", line, LogFormat.JSON).text) == {
        "CacheClusterId": "zy-test",
        "CacheNodeId": "0001",
        "LogLevel": "NOTICE",
        "Role": "M",
        "Time": "29 Oct 2020 19:32:20.499 UTC",
        "Message": "A slow-running Lua script detected",
    }


def test_an_engines_line_is_read_in_local_time_whatever_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-5")
    time.tzset()
    try:
        line = parse_engine_line("71:S 09 Jan 2026 02:00:01.250 # MASTER aborted replication", BEFORE)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line is not None
    assert (line.role, line.level, line.message) == ("S", "#", "MASTER aborted replication")
    assert utc_text(line.at_ms) == "08 Jan 2026 21:00:01.250 UTC"


def test_a_line_without_a_time_is_part_of_the_one_before() -> None:
    assert parse_engine_line("  a stack trace", BEFORE) == EngineLine(5, "S", "#", "  a stack trace")
    assert parse_engine_line("9:M 99 Jan 2026 02:00:01.250 # no day", BEFORE) is not None
    assert parse_engine_line("   ", BEFORE) is None


@pytest.mark.parametrize(
    "message",
    [
        ">>> 'requirepass \"hunter2\"'",
        "Bad directive: masterauth hunter2",
        ">>> 'user alice on >hunter2 ~* +@all'",
        "tls-key-file-pass hunter2",
        "Error in ACL SETUSER alice >hunter2",
        "argv[2]: 'hunter2'",
        '#     client->argv[2] = "hunter2" (refcount: 1)',
        "Protocol error (x) from client: id=3. Query buffer during protocol error: 'hunter2'",
    ],
)
def test_a_line_that_may_hold_a_password_is_withheld(message: str) -> None:
    line = parse_engine_line(f"9:M 09 Jan 2026 02:00:01.250 # {message}", BEFORE)
    assert line is not None
    assert line.message == WITHHELD
    bare = parse_engine_line(message, BEFORE)
    assert bare is not None
    assert bare.message == WITHHELD


@pytest.mark.parametrize(
    ("words", "command", "arguments"),
    [
        ([b"auth", b"alice", b"hunter2"], "AUTH", 2),
        ([b"CONFIG", b"SET", b"masterauth", b"hunter2"], "CONFIG", 3),
        ([b"flushall"], "FLUSHALL", 0),
        ([b"mset", *([b"x"] * 30), b"... (970 more arguments)"], "MSET", 1000),
        ([b"get", b"... (7 more arguments)"], "GET", 1),
    ],
)
def test_arguments_are_counted_and_never_shown(words: list[bytes], command: str, arguments: int) -> None:
    entry = slow_entry([7, 1700000000, 12000, words, b"127.0.0.1:5", b"a\nb"])
    assert (entry.command, entry.arguments) == (command, arguments)
    assert entry.client_name == "a?b"
    for written in LogFormat:
        text = slow_line("c", "0001", entry, written).text
        assert "hunter2" not in text
        assert "alice" not in text
        assert "\n" not in text


@pytest.mark.parametrize("reply", [None, [], [1, 2, 3, []], [b"1", 2, 3, [b"GET"]], [1, 2, 3, "GET"]])
def test_nonsense_is_refused(reply: object) -> None:
    with pytest.raises(ValueError, match="SLOWLOG"):
        slow_entry(reply)
