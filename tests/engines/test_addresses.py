"""Address pools on the real network stack."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network

import pytest

from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.endpoint.addresses import LoopbackPool, PortPool, loopback_usable


def listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def test_each_address_is_another_host_with_the_wanted_port(loopback_range: IPv4Network) -> None:
    picked = LoopbackPool(loopback_range).pick(6379, 254, [], None)
    assert len({address.host for address in picked}) == 254
    assert {address.port for address in picked} == {6379}
    assert {int(address.host.split(".")[3]) for address in picked} == set(range(1, 255))


def test_host_is_taken_whatever_its_port(loopback_range: IPv4Network) -> None:
    pool = LoopbackPool(loopback_range)
    [first] = pool.pick(6379, 1, [], None)
    [second] = pool.pick(6380, 1, [first], None)
    assert second.host != first.host


def test_search_goes_on_behind_the_last_address_and_round(loopback_range: IPv4Network) -> None:
    pool = LoopbackPool(loopback_range)
    start = loopback_range.network_address
    behind = pool.pick(6379, 3, [], Address(str(start + 253), 6379))
    assert [address.host for address in behind] == [str(start + n) for n in (254, 1, 2)]
    elsewhere = pool.pick(6379, 1, [], Address("10.0.0.1", 6379))
    assert elsewhere[0].host == str(start + 1)


def test_busy_address_is_skipped(loopback_range: IPv4Network) -> None:
    pool = LoopbackPool(loopback_range)
    last = Address(str(loopback_range.network_address + 199), 6379)
    with listen(str(loopback_range.network_address + 200), 6379):
        [picked] = pool.pick(6379, 1, [], last)
        assert picked.host == str(loopback_range.network_address + 201)
        [other_port] = pool.pick(6380, 1, [], last)
        assert other_port.host == str(loopback_range.network_address + 200)


def test_exhausted_range_says_what_to_do(loopback_range: IPv4Network) -> None:
    pool = LoopbackPool(loopback_range)
    taken = pool.pick(6379, 253, [], None)
    with pytest.raises(WorldError, match=r"only 1 of 2 addresses with port 6379 are free in .*253 are given out"):
        pool.pick(6379, 2, taken, taken[-1])


def test_large_range_is_searched_within_bounds() -> None:
    pool = LoopbackPool(IPv4Network("127.0.0.0/8"))
    [picked] = pool.pick(6379, 1, [], Address("127.255.255.254", 6379))
    assert picked.host.startswith("127.0.0.")


def test_wanted_port_is_tried_before_the_range(free_port: int) -> None:
    pool = PortPool(20000, 20100)
    assert not pool.movable
    first, second = pool.pick(free_port, 2, [], None)
    assert first == Address("127.0.0.1", free_port)
    assert 20000 <= second.port <= 20100
    with listen("127.0.0.1", free_port):
        [other] = pool.pick(free_port, 1, [], Address("127.0.0.1", second.port))
        assert other.port != free_port
        assert other.port != second.port


def test_exhausted_ports_say_what_to_do(free_port: int) -> None:
    pool = PortPool(free_port, free_port)
    with pytest.raises(WorldError, match=f"only 1 of 2 ports are free on 127.0.0.1 in {free_port}-{free_port}"):
        pool.pick(free_port, 2, [], None)


def test_usable_range_has_no_reason_and_others_have_one(loopback_range: IPv4Network) -> None:
    assert loopback_usable(loopback_range) is None
    assert "not inside" in (loopback_usable(IPv4Network("10.0.0.0/16")) or "")
    assert "too small" in (loopback_usable(IPv4Network("127.64.0.0/30")) or "")
