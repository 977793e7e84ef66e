"""Sources that allow little are followed by what is left, and what that does not see is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import valkey
from churn import Churn
from churn_follow import Following, Moment
from test_churn import measure_of
from truth import now_ms, record

ALLOWED = "on >{secret} ~* &* +@all -psync -sync"
SECRET = "s3cret-for-a-test"
NOTIFY, ONLY_EXPIRED = ("--notify-keyspace-events", "AE"), ("--notify-keyspace-events", "Ex")
# Nothing but what reads keys, and what every client sends.
BARE = "on >{secret} resetchannels ~* -@all +scan +dump +pexpiretime +pttl +info +ping +select +auth +hello +client|id"


def users(rules: str) -> str:
    return f"user default on nopass ~* &* +@all\nuser follower {rules.format(secret=SECRET)}\n"


def churned(
    server: Any,
    folder: Path,
    *,
    source: str = "auto",
    **options: Any,
) -> tuple[Following, Any]:
    """Followed as the user that may do little; the churn is by one that may do all."""
    options = {"source": source, "max_lag_s": 0.5, "user": "follower", "password": SECRET, **options}
    with Churn([server], seed=2, tags=8, large=0, commands_per_s=2000) as churn:
        churn.fill(500)
        with Following(server.url, folder, [server], **options) as following:
            churn.resume()
            churn.do(500)
            following.moment(churn)
            report = following.stop()
    return following, report


@pytest.mark.parametrize(
    ("rules", "arguments", "asked", "method"),
    [
        pytest.param(ALLOWED, (), "auto", "tracking", id="no-psync"),
        pytest.param(f"{ALLOWED} -client|tracking", NOTIFY, "auto", "keyspace", id="no-tracking"),
        pytest.param(f"{ALLOWED} -client|tracking -config", NOTIFY, "auto", "poll", id="nothing-proves-notifications"),
        pytest.param(f"{ALLOWED} -client|tracking -config", NOTIFY, "keyspace", "keyspace", id="notifications-wanted"),
        pytest.param(f"{ALLOWED} -client|tracking", ONLY_EXPIRED, "auto", "poll", id="only-expired-is-announced"),
        pytest.param(BARE, (), "auto", "poll", id="only-scan-and-dump"),
    ],
)
def test_the_best_method_that_a_user_is_allowed_is_chosen_and_loses_nothing(
    start_server: Any, tmp_path: Path, rules: str, arguments: tuple[str, ...], asked: str, method: str
) -> None:
    server = start_server("7.0", *arguments, users=users(rules))
    more: dict[str, Any] = {"reconcile_s": 0.2, "reconcile_keys_per_s": None} if method == "poll" else {}
    following, report = churned(server, tmp_path / "r", source=asked, **more)
    assert report.choice.method == method, report.choice
    assert report.choice.limits
    [moment] = following.moments
    found = following.differences(moment, start_server("7.0"), measure_of(method, "7.0"))
    if rules == BARE:  # FUNCTION is not allowed either
        found.functions.clear()
    assert found.compared > 100
    assert not found, str(found)


def test_a_renamed_config_does_not_keep_tracking_from_losing_nothing(start_server: Any, tmp_path: Path) -> None:
    server = start_server("9.1", "--rename-command", "CONFIG", "", users=users(ALLOWED))
    following, report = churned(server, tmp_path / "r")
    assert report.choice.method == "tracking"
    following.check(start_server("9.1"))


def test_what_the_server_evicts_is_gone_in_the_backup_too(
    start_server: Any, client: Any, wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    """maxmemory with allkeys-lru: whole keys go, of which no command tells."""
    server = start_server("9.1", "--maxmemory-policy", "allkeys-lru", users=users(ALLOWED))
    with client(server).pipeline(transaction=False) as pipe:
        for at in range(4000):
            pipe.set(f"filler:{at}", "x" * 1000)
        pipe.execute()
    server.ask("CONFIG", "SET", "maxmemory", _info(server, "memory", "used_memory") + 2_000_000)
    more = [[("SET", f"{{0}}more:{at}", "y" * 2000)] for at in range(5000)]
    with (
        Churn([server], seed=2, tags=8, large=0, commands_per_s=2000, rare=more, rare_every=2) as churn,
        Following(server.url, tmp_path / "r", [server], user="follower", password=SECRET) as following,
    ):
        churn.resume()
        churn.do(6000)
        wait_until(lambda: _info(server, "stats", "evicted_keys") > 100, "keys are evicted")
        churn.pause()
        server.ask("CONFIG", "SET", "maxmemory", 0)  # else what reads the truth would evict some of it
        following.moment(churn)
        report = following.stop()
    assert report.choice.method == "tracking"
    following.check(start_server("9.1"))


@pytest.mark.parametrize("method", ["tracking", pytest.param("keyspace", marks=pytest.mark.slow)])
def test_a_tiny_buffer_for_subscribers_makes_gaps_and_no_lies(start_server: Any, tmp_path: Path, method: str) -> None:
    arguments = ("--client-output-buffer-limit", "pubsub 30kb 30kb 1", "--notify-keyspace-events", "AE")
    server = start_server("9.1", *arguments, users=users(ALLOWED))
    options = {"source": method, "max_lag_s": 0.5, "user": "follower", "password": SECRET}
    with Churn([server], seed=2, tags=8, large=0, commands_per_s=2000) as churn:
        churn.fill(500)
        with Following(server.url, tmp_path / "r", [server], **options) as following:
            following.until(lambda seen: bool(seen.covered_until_ms), "it follows")
            _overrun(server)
            following.until(lambda seen: seen.gaps > 0, "a gap is noted")
            churn.resume()
            churn.do(500)
            following.moment(churn)
            report = following.stop()
    assert [gap for gap in report.gaps if gap.reason]
    following.check(start_server("9.1"), measure_of(method, "9.1"))


def _overrun(server: Any) -> None:
    """More changes within one command than the buffer holds, until a subscriber was cut off."""
    script = "for i = 1, 5000 do redis.call('SET', 'over:' .. ARGV[1] .. ':' .. i, i) end"
    for turn in range(100):
        server.ask("EVAL", script, 0, turn)
        if _info(server, "stats", "client_output_buffer_limit_disconnections"):
            return
    raise AssertionError("nobody was cut off")


def _info(server: Any, section: str, name: str) -> int:
    lines = server.ask("INFO", section).decode().splitlines()
    return int(next(line.split(":", 1)[1] for line in lines if line.startswith(f"{name}:")))


@pytest.mark.parametrize("how", ["config", pytest.param("restart", marks=pytest.mark.slow)])
def test_notifications_that_are_turned_off_meanwhile_are_not_taken_for_silence(
    start_server: Any, wait_until: Callable[..., Any], tmp_path: Path, how: str
) -> None:
    """Nothing is announced any more: then the moment is not covered, or what it has was found by other means."""
    server = start_server("9.1", "--enable-debug-command", "yes")
    server.ask("CONFIG", "SET", "notify-keyspace-events", "AE")
    server.ask("SET", "before", 1)
    with Following(server.url, tmp_path / "r", [server], source="keyspace", max_lag_s=0.5) as following:
        following.until(lambda seen: bool(seen.covered_until_ms), "it follows")
        if how == "config":
            server.ask("CONFIG", "SET", "notify-keyspace-events", "")
        else:
            before = _run_id(server)
            with pytest.raises(valkey.ConnectionError):
                server.ask("DEBUG", "RESTART")
            wait_until(lambda: _run_id(server) != before, "it is back")
        at_ms = now_ms(server)
        wait_until(
            lambda: _covered(following, at_ms + 1500) or _complains(following), "it goes on, or says why not", 30
        )
        server.ask("SET", "after", 1)
        at_ms = now_ms(server)
        wait_until(lambda: _covered(following, at_ms + 10) or _complains(following), "it goes on, or says why not", 30)
        moment = Moment(at_ms, record(server))
        if following.failure is None:
            following.stop()
    if following.failure is None and following.covers(at_ms):
        found = following.differences(moment, start_server("9.1"))
        assert not found, str(found)


def _covered(following: Following, moment_ms: int) -> bool:
    seen = following.last
    return seen is not None and (seen.covered_until_ms or 0) >= moment_ms


def _complains(following: Following) -> bool:
    return following.failure is not None or any("notify-keyspace-events" in sentence for sentence in following.said)


def _run_id(server: Any) -> bytes:
    return server.ask("INFO", "server").split(b"run_id:")[1][:40]
