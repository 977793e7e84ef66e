"""What endpoints that are not ours tell of themselves, and what of it is taken."""

from __future__ import annotations

import pytest

from cachekeep.codec.watched_answers import cluster_rows, config_members, engine_of, printable, replicas_of, version_of
from cachekeep.domain.nodes import Address

ESCAPE = "\x1b]0;owned\x07"


@pytest.mark.parametrize("version", ["9.1.0", "7.4.0-rc1", "255.255.255+git", ""])
def test_a_version_is_taken_as_it_is(version: str) -> None:
    assert version_of(version) == version


@pytest.mark.parametrize("version", [ESCAPE, "9.1\n", "9" * 33, '9"} 1', "9 1"])
def test_what_is_no_version_is_unknown(version: str) -> None:
    assert engine_of({"valkey_version": version}) == ("valkey", "unknown")
    assert engine_of({"redis_version": version}) == ("redis", "unknown")


def test_hosts_are_hosts_or_left_out() -> None:
    line = "{id} {host}:6379@16379,{name} myself,master - 0 0 1 connected 0-5"
    odd, good = (
        cluster_rows(line.format(id="a", host=host, name=name))[0]
        for host, name in (("x" + ESCAPE, ESCAPE), ("10.0.0.5", "node.example,shard-id=7"))
    )
    assert (odd.address, odd.host_name) == (None, "")
    assert (good.address, good.host_name) == (Address("10.0.0.5", 6379), "node.example")
    assert replicas_of({"slave0": f"ip={ESCAPE},port=6379", "slave1": "ip=::1,port=6379"}) == [Address("::1", 6379)]
    members = f"n.example|10.0.0.5|11211 {ESCAPE}||11211 {ESCAPE}|10.0.0.6|11211"
    found = config_members(f"CONFIG cluster 0 9\r\n1\r\n{members}\n\r\nEND\r\n".encode())
    assert found == [
        ("n.example", Address("10.0.0.5", 11211), 11211),
        ("", Address("10.0.0.6", 11211), 11211),
    ]


def test_what_a_server_says_is_shown_without_what_a_terminal_obeys() -> None:
    assert printable(f"ERR {ESCAPE} é", 100) == "ERR ?]0;owned? é"
    assert printable("x" * 200, 120) == "x" * 120
