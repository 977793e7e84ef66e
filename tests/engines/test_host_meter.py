"""MachineMeter on this machine and on folders that stand for /proc."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.metric_ports import ProcessReading
from cachekeep.domain.nodes import Address
from cachekeep.host import proc
from cachekeep.host.ethtool import ALLOWANCES, DriverCounters, linux_driver, parse_names
from cachekeep.host.meter import AGAIN_S, MachineMeter
from cachekeep.host.proc import TICKS_PER_S
from cachekeep.host.sock_diag import SockDiag

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


def proc_of(tmp_path: Path) -> Path:
    """A folder that stands for /proc: 800 of 1000 ticks idle, 1000 kB of memory, 600 of them available."""
    (tmp_path / "stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n")
    (tmp_path / "self").mkdir()
    return tmp_path


def test_dropped_packets_and_refused_connections_are_summed_over_cores(tmp_path: Path) -> None:
    (tmp_path / "net/stat").mkdir(parents=True)
    (tmp_path / "net/stat/nf_conntrack").write_text("entries insert_failed drop early_drop\n1 1 a 0\n1 0 1 10\n")
    (tmp_path / "net/softnet_stat").write_text("ff 2 9\nff 10 9\n")
    meter = MachineMeter(proc_of(tmp_path), tmp_path / "groups")
    seen = meter.machine()
    assert (seen.conntrack_exceeded, seen.packets_exceeded, seen.bandwidth_in_exceeded) == (28, 18, None)
    assert seen.cpu_busy_s / seen.cpu_total_s == pytest.approx(0.2)
    assert (seen.memory_total_bytes, seen.memory_available_bytes) == (1_024_000, 614_400)
    meter.close()


def files(folder: Path, **content: str) -> None:
    """`__` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize("path", ["/a/b", "/"])
def test_the_tightest_limit_of_the_own_control_group_and_those_above_counts(tmp_path: Path, path: str) -> None:
    root, groups = proc_of(tmp_path), tmp_path / "groups"
    (root / "self/cgroup").write_text(f"0::{path}\n")
    for folder, limit, used in ((groups / "a/b", "900000", "5"), (groups / "a", "512000", "300000")):
        files(folder, memory__max=limit, memory__current=used, memory__stat="anon 1\ninactive_file 100000")
        files(folder, cpu__max="max 100000", cpu__stat="usage_usec 1")
    files(groups, cpu__max="50000 100000", cpu__stat="usage_usec 2500000\nuser_usec 1")
    meter = MachineMeter(root, groups, clock=lambda: 100.0)
    seen = meter.machine()
    assert (seen.cpu_busy_s, seen.cpu_total_s) == (2.5, 50.0)
    expected = (512_000, 312_000) if path == "/a/b" else (1_024_000, 614_400)
    assert (seen.memory_total_bytes, seen.memory_available_bytes) == expected
    meter.close()


@pytest.mark.parametrize("inside", [True, False])
def test_limits_of_the_older_control_groups_are_told_controller_by_controller(tmp_path: Path, inside: bool) -> None:
    """A container sees its own group as the mount, while /proc tells the host's path."""
    root, groups = proc_of(tmp_path), tmp_path / "groups"
    (root / "self/cgroup").write_text("5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n")
    inner = "." if inside else "docker/x"
    files(groups / "cpu" / inner, cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    files(groups / "cpuacct" / inner, cpuacct__usage="2500000000")
    stat = "inactive_file 1\ntotal_inactive_file 100000"
    files(
        groups / "memory" / inner, memory__limit_in_bytes="512000", memory__usage_in_bytes="300000", memory__stat=stat
    )
    meter = MachineMeter(root, groups, clock=lambda: 100.0)
    seen = meter.machine()
    cores = min(1.5, float(os.cpu_count() or 1))
    assert (seen.cpu_busy_s, seen.cpu_total_s) == (2.5, 100.0 * cores)
    assert (seen.memory_total_bytes, seen.memory_available_bytes) == (512_000, 312_000)
    meter.close()


def test_no_limit_is_the_whole_machine(tmp_path: Path) -> None:
    root, groups = proc_of(tmp_path), tmp_path / "groups"
    (root / "self/cgroup").write_text("0::/a\n")
    files(groups / "a", memory__max="max", memory__current="5", cpu__max="max 100000", cpu__stat="usage_usec 1")
    meter = MachineMeter(root, groups)
    assert (meter.machine().cpu_total_s, meter.machine().memory_total_bytes) == (1000 / TICKS_PER_S, 1_024_000)
    meter.close()


def test_allowances_that_the_network_driver_counts_come_before_what_the_kernel_dropped(tmp_path: Path) -> None:
    table = b"".join(name.ljust(32, b"\0") for name in (b"tx_timeout", *(one.encode() for one in ALLOWANCES)))
    names = {"ens5": parse_names(table), "ens6": parse_names(table), "eth9": ["rx_drops"]}
    values = {"ens5": [9, 1, 2, 3, 4, 5], "ens6": [9, 10, 20, 30, 40, 50], "eth9": [7]}

    def names_of(interface: str) -> list[str]:
        if interface == "lo":
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return names[interface]

    driver = DriverCounters(lambda: ["lo", *names], names_of, lambda interface: values[interface])
    (tmp_path / "net").mkdir()
    (tmp_path / "net/softnet_stat").write_text("ff 2 9\n")
    meter = MachineMeter(proc_of(tmp_path), tmp_path, driver)

    def exceeded() -> tuple[int | None, ...]:
        it = meter.machine()
        return (
            it.bandwidth_in_exceeded,
            it.bandwidth_out_exceeded,
            it.packets_exceeded,
            it.conntrack_exceeded,
            it.link_local_exceeded,
        )

    assert exceeded() == (11, 22, 33, 44, 55)
    names["ens5"], values["ens5"] = ["new", *names["ens5"]], [0, *values["ens5"]]
    assert exceeded() == (11, 22, 33, 44, 55), "the driver has more counters by now"
    meter.close()


def test_real_network_drivers_are_asked() -> None:
    """Whatever this machine has: as many values as names, or a refusal."""
    driver = linux_driver()
    assert "lo" in driver.interfaces()
    with pytest.raises(OSError, match="No such device"):
        driver.names("no-such-one")
    for interface in driver.interfaces():
        with suppress(OSError):
            names = driver.names(interface)
            assert all(name.isascii() and name.isprintable() for name in names)
            assert len(driver.values(interface)) == len(names)


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
        talk((server.host, server.port))

    def bytes_in() -> int:
        seen = meter.traffic(owners)
        assert seen is not None
        return seen["one"].bytes_in

    # The kernel counts the end of a stream as a byte; the fixture's own PING connection may be told of late.
    wait_until(lambda: bytes_in() >= 35, "the notices of all five ends")
    assert bytes_in() in (35, 42)


def talk(address: tuple[str, int]) -> None:
    """A connection that says PING, and its end: 7 bytes."""
    with socket.create_connection(address, timeout=3) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(64) == b"+PONG\r\n"


def test_a_replicas_own_connections_count_for_its_address(
    meter: MachineMeter, start_server: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    primary, replica = start_server("9.1", "--repl-diskless-sync-delay", "0"), start_server()
    replica.ask("CONFIG", "SET", "bind-source-addr", replica.host)
    owners = {Address(primary.host, 6379): "primary", Address(replica.host, 6379): "replica"}
    before = meter.traffic(owners)
    if before is None:
        pytest.skip("the kernel tells nobody")
    replica.ask("REPLICAOF", primary.host, "6379")
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "the link")
    primary.ask("SET", "big", "x" * 100_000)
    wait_until(lambda: replica.ask("STRLEN", "big") == 100_000, "the value has come")
    after = meter.traffic(owners)
    assert after is not None
    assert after["replica"].bytes_in - before["replica"].bytes_in > 100_000
    assert after["primary"].bytes_out - before["primary"].bytes_out > 100_000


def test_traffic_over_ipv6_counts(meter: MachineMeter) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        port = listener.getsockname()[1]
        owners = {Address("::1", port): "six"}
        if meter.traffic(owners) is None:
            pytest.skip("the kernel tells nobody")
        with socket.create_connection(("::1", port), timeout=3) as link, listener.accept()[0] as end:
            link.sendall(b"x" * 1000)
            assert len(end.recv(1000, socket.MSG_WAITALL)) == 1000
            seen = meter.traffic(owners)
    assert seen is not None
    assert (seen["six"].bytes_in, seen["six"].bytes_out) == (1000, 0)
    assert seen["six"].packets_in >= 2


def test_lost_notices_cost_their_connections_only(
    start_server: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    server = start_server()
    owners = {Address(server.host, 6379): "one"}
    with closing(SockDiag(notices_bytes=1)) as sockets:  # the kernel makes it its least: room for a few

        def bytes_in() -> int:
            return sockets.traffic(owners)["one"].bytes_in

        try:
            bytes_in()
        except OSError:
            pytest.skip("the kernel tells nobody")
        for _ in range(50):
            talk((server.host, 6379))
        lost = bytes_in()
        assert lost < 50 * 7, "there was no room for all"
        with socket.create_connection((server.host, 6379), timeout=3) as link:
            for _ in range(20):
                link.sendall(b"PING\r\n")
                assert link.recv(64) == b"+PONG\r\n"
            now = bytes_in()
            assert now >= lost + 120

            def a_short_one_counts() -> bool:
                # Sockets of all programs are told of: now and then theirs take the room.
                talk((server.host, 6379))
                return bytes_in() > now

            wait_until(a_short_one_counts, "notices come again")


def test_a_refusal_is_believed_for_some_seconds_and_forgets_nothing(start_server: Callable[..., Any]) -> None:
    server, now = start_server(), [100.0]
    owners = {Address(server.host, 6379): "one"}
    meter = MachineMeter(clock=lambda: now[0])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = os.dup(0)
    os.close(in_use)
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, limits[1]))
    try:
        assert meter.traffic(owners) is None, "no file descriptor is left"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert meter.traffic(owners) is None
    now[0] += AGAIN_S
    if meter.traffic(owners) is None:
        pytest.skip("the kernel tells nobody")
    with socket.create_connection((server.host, 6379), timeout=3) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(64) == b"+PONG\r\n"
        seen = meter.traffic(owners)
    assert seen is not None
    assert seen["one"].bytes_in >= 6
    meter.close()
    assert meter.traffic(owners) is None


def test_a_process_is_read_whatever_its_name_is(tmp_path: Path) -> None:
    (tmp_path / "7/task/7").mkdir(parents=True)
    (tmp_path / "7/stat").write_text("7 (a) b) ) S " + " ".join(str(n) for n in range(4, 30)))
    (tmp_path / "7/task/7/stat").write_text("7 (a) b) ) S " + " ".join("1" for _ in range(30)))
    (tmp_path / "7/status").write_text("Name:\ta\nVmRSS:\t    12 kB\nRssAnon: 1 kB\nVmSwap:\t 3 kB\n")
    found = proc.process(tmp_path, 7)
    assert found == ProcessReading(12 * 1024, 3 * 1024, (14 + 15) / TICKS_PER_S, 2 / TICKS_PER_S)
    (tmp_path / "7/status").write_text("Name:\ta\nState:\tZ (zombie)\n")
    ended = proc.process(tmp_path, 7)
    assert ended is not None
    assert (ended.rss_bytes, ended.swap_bytes) == (0, 0)
    assert proc.process(tmp_path, 8) is None
