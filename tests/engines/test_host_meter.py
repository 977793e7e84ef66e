"""MachineMeter on this machine and on folders that stand for /proc."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.nodes import Address
from cachekeep.host.meter import MachineMeter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def meter() -> Iterator[MachineMeter]:
    made = MachineMeter()
    yield made
    made.close()


def test_machine_and_own_process_are_read(meter: MachineMeter) -> None:
    first, second = meter.machine(), meter.machine()
    assert 0 < first.cpu_busy_s <= first.cpu_total_s <= second.cpu_total_s
    assert 0 < first.memory_available_bytes <= first.memory_total_bytes
    found = meter.processes([os.getpid(), 2**22 + 1])
    assert found.keys() == {os.getpid()}
    own = found[os.getpid()]
    assert own.rss_bytes > 1 << 20
    assert 0 <= own.main_thread_cpu_s <= own.cpu_s


def test_dropped_packets_and_refused_connections_are_summed_over_cores(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 600 kB\n")
    (tmp_path / "net/stat").mkdir(parents=True)
    (tmp_path / "net/stat/nf_conntrack").write_text("entries insert_failed drop early_drop\n1 1 a 0\n1 0 1 10\n")
    (tmp_path / "net/softnet_stat").write_text("ff 2 9\nff 10 9\n")
    groups = tmp_path / "groups"
    groups.mkdir()
    meter = MachineMeter(tmp_path, groups)
    seen = meter.machine()
    assert (seen.conntrack_exceeded, seen.packets_exceeded, seen.bandwidth_in_exceeded) == (28, 18, None)
    assert seen.cpu_busy_s / seen.cpu_total_s == pytest.approx(0.2)
    (groups / "memory.max").write_text("512000\n")
    (groups / "memory.current").write_text("300000\n")
    (groups / "memory.stat").write_text("inactive_file 100000\n")
    assert (meter.machine().memory_total_bytes, meter.machine().memory_available_bytes) == (512000, 312000)
    meter.close()


def test_traffic_is_told_per_node_as_the_client_socket_tells_it(
    meter: MachineMeter, start_server: Callable[..., Any]
) -> None:
    one, two = start_server(), start_server()
    owners = {Address(one.host, one.port): "one", Address(two.host, two.port): "two"}
    if meter.traffic(owners) is None:
        pytest.skip("the kernel tells nobody")
    with socket.create_connection((one.host, one.port), timeout=3) as link:
        for _ in range(50):
            link.sendall(b"PING\r\n")
            assert link.recv(64) == b"+PONG\r\n"
        seen = meter.traffic(owners)
        # tcp_info of the client's own socket: segs_out, segs_in.
        sent, received = struct.unpack_from("=II", link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 136)
    assert seen is not None
    # The notice of the fixture's own PING connection may come late: up to 7 bytes each way, 6 packets.
    assert 300 <= seen["one"].bytes_in <= 307
    assert 350 <= seen["one"].bytes_out <= 357
    assert -1 <= seen["one"].packets_in - sent <= 7, "the SYN comes before the connection is there"
    assert -1 <= seen["one"].packets_out - received <= 7
    assert seen["two"].bytes_in <= 7


def test_connections_that_ended_between_two_looks_count(
    meter: MachineMeter, start_server: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    server = start_server()
    owners = {Address(server.host, server.port): "one"}
    if meter.traffic(owners) is None:
        pytest.skip("the kernel tells nobody")
    for _ in range(5):
        with socket.create_connection((server.host, server.port), timeout=3) as link:
            link.sendall(b"PING\r\n")
            assert link.recv(64) == b"+PONG\r\n"

    def bytes_in() -> int:
        seen = meter.traffic(owners)
        assert seen is not None
        return seen["one"].bytes_in

    # The kernel counts the end of a stream as a byte; the fixture's own PING connection may be told of late.
    wait_until(lambda: bytes_in() >= 35, "the notices of all five ends")
    assert bytes_in() in (35, 42)
