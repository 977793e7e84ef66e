"""`cachekeep watch`: where a password may come from, and what is printed."""

from __future__ import annotations

import io
from typing import Any

import pytest

from cachekeep.cli.console import print_lines
from cachekeep.cli.main import main
from cachekeep.cli.refusal import Refused
from cachekeep.cli.watch import PASSWORD_VARIABLE, added_lines, lines_of, password

TARGET: dict[str, Any] = {
    "id": "shop",
    "url": "rediss://shop.example:6379",
    "engine": "valkey",
    "version": "8.1.0",
    "role": "group",
    "node_type": "cache.r7g.large",
    "used_memory": 1 << 30,
    "maxmemory": 4 << 30,
    "trouble": None,
    "note": "1 more node does not answer from here",
    "nodes": [
        {
            "id": "shop-001",
            "node_id": "0001",
            "address": "10.0.0.1:6379",
            "shard": None,
            "role": "primary",
            "status": "available",
            "used_memory": 1 << 30,
        }
    ],
}
NEW = {**TARGET, "engine": None, "version": None, "role": None, "node_type": None, "used_memory": None, "nodes": []}


def test_a_password_in_the_url_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", "add", "shop", "redis://app:hush@shop.example"])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert "--password-stdin, or set CACHEKEEP_WATCH_PASSWORD" in told.err
    assert "hush" not in told.err + told.out


def test_a_password_comes_from_stdin_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "of the environment")
    assert password(from_stdin=False) == "of the environment"
    for text, found in (("open sesame\n", "open sesame"), ("open\r\nsecond line", "open"), ("last", "last")):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert password(from_stdin=True) == found
    for text in ("", "\n", "x" * 2000):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        with pytest.raises(Refused, match="stdin holds no password"):
            password(from_stdin=True)
    monkeypatch.delenv(PASSWORD_VARIABLE)
    assert password(from_stdin=False) == ""


def test_targets_and_their_nodes_are_listed() -> None:
    assert lines_of({"targets": [TARGET, {**NEW, "trouble": "it is gone", "note": None}]}) == [
        "shop  rediss://shop.example:6379  valkey 8.1.0  group  cache.r7g.large  1.0 GiB of 4.0 GiB",
        "  note: 1 more node does not answer from here",
        "  shop-001/0001  10.0.0.1:6379  primary  available  1.0 GiB",
        "shop  rediss://shop.example:6379  engine not known yet",
        "  trouble: it is gone",
    ]
    assert "watch add NAME URL" in lines_of({"targets": []})[0]


def test_what_was_added_is_told() -> None:
    assert added_lines({"target": TARGET, "problem": None}) == [
        "Watching shop: valkey 8.1.0, 1 node; metrics within a minute",
        "  note: 1 more node does not answer from here",
    ]
    assert added_lines({"target": NEW, "problem": "it is gone"}) == ["shop was added, but does not answer: it is gone"]


def test_what_endpoints_say_is_never_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(["far  \x1b[2Jredis \x9b1m[bold]7[/bold]"])
    assert capsys.readouterr().out == "far  ?[2Jredis ?1m[bold]7[/bold]\n"
