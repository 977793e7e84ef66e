"""Metrics against what the test itself did, or read in another way, on living engines."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import valkey
from measuring import Span
from pymemcache.client.base import Client as MemcacheClient

from cachekeep.data.metrics import metrics
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address
from cachekeep.host.meter import MachineMeter

MIB = 1024 * 1024


@pytest.fixture
def span() -> Iterator[Callable[..., Span]]:
    with ExitStack() as stack:

        def make(server: Any, **more: Any) -> Span:
            made = Span(server, **more)
            stack.callback(made.close)
            return made

        yield make


def connect(server: Any, **more: Any) -> valkey.Valkey[Any]:
    return valkey.Valkey(host=server.host, port=server.port, socket_timeout=20, **more)


def info(server: Any, section: str = "everything") -> dict[str, Any]:
    """By another client than the one that is tested."""
    with connect(server) as client:
        return dict(client.info(section))


VERSIONS = ["9.1", *(pytest.param(version, marks=pytest.mark.slow) for version in ("8.1", "7.0", "6.2"))]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reader_with_a_known_hit_rate(
    start_server: Callable[..., Any], span: Callable[..., Span], version: str
) -> None:
    server = start_server(version)
    measured = span(server)
    with connect(server) as client:
        client.set("there", "x")
        client.get("absent")
        measured.begin()
        for number in range(400):
            client.get("there" if number % 4 else "absent")
        sums = measured.sums()
    assert (sums["CacheHits"], sums["CacheMisses"], sums["CacheHitRate"]) == (300.0, 100.0, 75.0)
    measured.begin()
    assert "CacheHitRate" not in measured.sums(), "nothing was read: there is no rate, not one of 0"


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_count_in_their_families(
    start_server: Callable[..., Any], span: Callable[..., Span], version: str
) -> None:
    server = start_server(version)
    measured = span(server)
    with connect(server) as client:
        client.ping()
        measured.begin()
        before = info(server, "commandstats")
        with client.pipeline(transaction=False) as load:
            for number in range(50):
                load.set(f"string{number}", "x").get(f"string{number}").hset("hash", f"f{number}", 1)
                load.hget("hash", f"f{number}").zadd("sorted", {str(number): number}).sadd("set", number)
                load.lpush("list", number).lrange("list", 0, 3).xadd("stream", {"a": 1}).pfadd("hll", number)
                load.geoadd("geo", (1.0, 2.0, str(number))).eval("return 1", 0).publish("channel", "x").expire(
                    "set", 900
                )
            load.execute()
        sums = measured.sums()
        after = info(server, "commandstats")
    assert {name: sums[f"{name}Cmds"] for name in _FAMILIES} == _FAMILIES
    spent = sum(
        after[f"cmdstat_{name}"]["usec"] - before.get(f"cmdstat_{name}", {"usec": 0})["usec"]
        for name in ("hset", "hget")
    )
    assert sums["HashBasedCmdsLatency"] == pytest.approx(spent / 100)


# Of the load above, 50 times each: GetType all that reads, SetType all that writes.
_FAMILIES = {
    "StringBased": 100.0,
    "HashBased": 100.0,
    "SortedSetBased": 50.0,
    "SetBased": 50.0,
    "ListBased": 100.0,
    "StreamBased": 50.0,
    "HyperLogLogBased": 50.0,
    "GeoSpatialBased": 50.0,
    "EvalBased": 50.0,
    "PubSubBased": 50.0,
    "KeyBased": 50.0,
}


def test_latencies_have_a_sample_for_each_command(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    server = start_server("9.1")
    measured = span(server)
    with connect(server) as client:
        client.set("key", "x")
        measured.begin()
        before = (
            info(server, "commandstats")["cmdstat_get"]["usec"] if "cmdstat_get" in info(server, "commandstats") else 0
        )
        for _ in range(250):
            client.get("key")
        points = measured.end()
        spent = info(server, "commandstats")["cmdstat_get"]["usec"] - before
    reads = points["SuccessfulReadRequestLatency"]
    assert reads.count == sum(count for _, count in reads.buckets) == 250
    assert reads.total == pytest.approx(spent)
    assert reads.least <= reads.total / reads.count <= reads.most
    assert "SuccessfulWriteRequestLatency" not in points


def test_a_leak_of_connections(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    server = start_server("9.1", "--maxclients", "100")
    measured = span(server)
    with connect(server) as watching, ExitStack() as leak:
        watching.ping()
        measured.begin()
        before = measured.look()["CurrConnections"]
        _leak(server, leak, 60)
        gauges = _until(measured, "CurrConnections", before + 60)
        assert gauges["ConnectionsUsagePercentage"] == pytest.approx(before + 60)
        assert gauges["MaxConnections"] == 100
        assert measured.sums()["NewConnections"] == 60
        _leak(server, leak, 60)
        _until(measured, "CurrConnections", 100)
        refused = before + 120 - 100
        deadline = time.monotonic() + 10
        while watching.info("stats")["rejected_connections"] < refused and time.monotonic() < deadline:
            time.sleep(0.01)
        assert measured.sums()["RejectedConnections"] == refused


def _leak(server: Any, leak: ExitStack, number: int) -> None:
    for _ in range(number):
        leak.enter_context(socket.create_connection((server.host, server.port)))


def _until_there(measured: Span, metric: str) -> None:
    deadline = time.monotonic() + 10
    while metric not in measured.look():
        assert time.monotonic() < deadline, f"{metric} never came"


def _until(measured: Span, metric: str, value: float) -> dict[str, float]:
    """The gauges once one has this value."""
    deadline = time.monotonic() + 10
    while (gauges := measured.look())[metric] != value:
        assert time.monotonic() < deadline, f"{metric} is {gauges[metric]}, not {value}"
    return gauges


def test_an_eviction_storm(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    server = start_server("9.1", "--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru")
    measured = span(server)
    with connect(server) as client:
        measured.begin()
        with client.pipeline(transaction=False) as load:
            for number in range(12_000):
                load.set(f"key{number}", "x" * 1000)
            load.execute()
        # Keys go on being evicted as the memory of the clients itself changes.
        before = info(server)
        gauges = measured.look()
        told = info(server)
        sums = measured.sums()
        after = info(server)
    assert 1000 < before["evicted_keys"] <= told["evicted_keys"] <= sums["Evictions"] <= after["evicted_keys"]
    assert 90 < gauges["DatabaseMemoryUsagePercentage"] <= 105
    assert gauges["DatabaseMemoryUsagePercentage"] == pytest.approx(100 * told["used_memory"] / (8 * MIB), abs=5)
    assert gauges["DatabaseCapacityUsagePercentage"] == gauges["DatabaseMemoryUsagePercentage"]
    counted = told["used_memory"] - told["mem_not_counted_for_evict"]
    assert gauges["DatabaseMemoryUsageCountedForEvictPercentage"] == pytest.approx(100 * counted / (8 * MIB), abs=5)
    assert before["db0"]["keys"] >= gauges["CurrItems"] >= told["db0"]["keys"]


def test_fragmentation_made_on_purpose(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    server = start_server("9.1")
    measured = span(server)
    with connect(server) as client:
        with client.pipeline(transaction=False) as load:
            for number in range(60_000):
                load.set(f"key{number}", "x" * 600)
            load.execute()
        full = measured.look()
        with client.pipeline(transaction=False) as load:
            for number in range(60_000):
                if number % 20:
                    load.unlink(f"key{number}")
            load.execute()
        deadline = time.monotonic() + 10
        # What the ratio is made of is some tenths of a second old.
        while (gauges := measured.look())["BytesUsedForCache"] > full["BytesUsedForCache"] / 4 or gauges[
            "MemoryFragmentationRatio"
        ] <= full["MemoryFragmentationRatio"]:
            assert time.monotonic() < deadline, gauges
        told = info(server, "memory")
    assert full["MemoryFragmentationRatio"] < 1.5 < gauges["MemoryFragmentationRatio"]
    # By another way: what the kernel says is resident, over what the engine says it uses.
    resident = psutil.Process(server.pid).memory_info().rss
    assert gauges["MemoryFragmentationRatio"] == pytest.approx(resident / told["used_memory"], rel=0.25)
    assert gauges["AllocatorFragmentationRatio"] == pytest.approx(told["allocator_frag_ratio"], rel=0.2)


def test_expiry_and_times_to_live(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    server = start_server("9.1", "--hz", "100")
    measured = span(server)
    with connect(server) as client:
        measured.begin()
        with client.pipeline(transaction=False) as load:
            for number in range(300):
                load.set(f"soon{number}", "x", px=1)
            for number in range(40):
                load.set(f"later{number}", "x", ex=1000)
            load.set("for ever", "x")
            load.execute()
        assert _until(measured, "CurrItems", 41)["CurrVolatileItems"] == 40
        _until_there(measured, "DB0AverageTTL")
        gauges = measured.look()
        assert 0 < gauges["DB0AverageTTL"] <= 1_000_000
        assert measured.sums()["Reclaimed"] == 300


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads the kernel's own numbers")
def test_bytes_packets_and_cpu_of_a_load(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    server, quiet = start_server("9.1"), start_server("9.1")
    meters = MachineMeter(), MachineMeter()
    measured, beside = span(server, host=meters[0]), span(quiet, host=meters[1])
    beside.begin()
    with connect(server) as client:
        client.ping()
        measured.begin()
        begun = psutil.Process(server.pid).cpu_times()
        began = time.monotonic()
        payload = "x" * 100_000
        for number in range(200):
            client.set(f"key{number % 10}", payload)
        points = measured.end()
        spent = psutil.Process(server.pid).cpu_times()
        took = time.monotonic() - began
    others = beside.end()
    for meter in meters:
        meter.close()
    written = 200 * 100_000
    assert written < points["NetworkBytesIn"].total < written * 1.02
    assert 200 * 5 < points["NetworkBytesOut"].total < 100_000
    if "NetworkPacketsIn" in points:
        # Loopback carries up to 64 KiB in a segment: at least two for each value, at most one for each 1,400 bytes.
        assert 400 <= points["NetworkPacketsIn"].total <= written / 1400
        assert others["NetworkPacketsIn"].total < 200, "packets are told apart by node"
    cpu = points["EngineCPUUtilization"]
    used = (spent.user + spent.system - begun.user - begun.system) / took * 100
    # The process has threads besides; ticks of the kernel are 10 ms.
    assert cpu.most <= 100 * 1.1
    assert cpu.most <= used + 100 * 0.03 / took


def test_replication_bytes_and_roles(start_server: Callable[..., Any], span: Callable[..., Span]) -> None:
    primary = start_server("9.1", "--repl-diskless-sync-delay", "0", "--repl-diskless-load", "on-empty-db")
    replica = start_server("9.1", "--replicaof", f"{primary.host} 6379", "--repl-diskless-load", "on-empty-db")
    of_primary, of_replica = span(primary), span(replica)
    deadline = time.monotonic() + 20
    while of_replica.look().get("MasterLinkHealthStatus") != 1.0:
        assert time.monotonic() < deadline, replica.log()
    assert of_replica.gathering.now["IsMaster"] == 0.0
    assert of_primary.look()["IsMaster"] == 1.0
    assert "MasterLinkHealthStatus" not in of_primary.gathering.now
    of_primary.begin()
    before = info(primary, "replication")["master_repl_offset"]
    with connect(primary) as client:
        client.set("key", "x" * 50_000)
    grown = of_primary.sums()["ReplicationBytes"]
    after = info(primary, "replication")["master_repl_offset"]
    assert 50_000 < grown <= after - before + 200


def test_failures_of_authentication_and_blocked_clients(
    start_server: Callable[..., Any], span: Callable[..., Span]
) -> None:
    users = "user default on nopass ~* &* +@all\nuser guest on >open ~mine:* &mine:* +get +publish +auth\n"
    server = start_server("9.1", users=users)
    measured = span(server)
    measured.begin()
    with connect(server) as client, connect(server) as waiting:
        for _ in range(3):
            with pytest.raises(valkey.AuthenticationError):
                client.execute_command("AUTH", "guest", "wrong")
        client.execute_command("AUTH", "guest", "open")
        for words in (("GET", "other"), ("PUBLISH", "other", "x"), ("SET", "mine:a", "x"), ("DEL", "mine:a")):
            with pytest.raises(valkey.exceptions.NoPermissionError):
                client.execute_command(*words)
        held = waiting.connection_pool.get_connection("BLPOP")
        held.send_command("BLPOP", "nothing", "0")
        deadline = time.monotonic() + 10
        while measured.look()["BlockedConnections"] != 1.0:
            assert time.monotonic() < deadline
        waiting.connection_pool.release(held)
        held.disconnect()
    sums = measured.sums()
    assert sums["AuthenticationFailures"] == 3
    assert sums["KeyAuthorizationFailures"] == 1
    assert sums["ChannelAuthorizationFailures"] == 1
    assert sums["CommandAuthorizationFailures"] == 2
    assert sums["ErrorCount"] >= 7


def test_what_memcached_counts(
    memcached: EngineInstall, fresh_address: Callable[..., Address], span: Callable[..., Span], tmp_path: Path
) -> None:
    address = fresh_address(11211)
    command = [memcached.program, "-l", address.host, "-p", "11211", "-U", "0", "-m", "64", "-c", "200"]
    user = ["-u", "root"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*command, *user], stdin=subprocess.DEVNULL, cwd=tmp_path)
    try:
        _wait_for_port(address)
        server = SimpleNamespace(host=address.host, port=address.port, pid=process.pid)
        measured = span(server, speaks_resp=False)
        measured.begin()
        client = MemcacheClient((address.host, address.port), default_noreply=False)
        for number in range(30):
            client.set(f"key{number}", b"x" * 1000)
        for number in range(40):
            client.get(f"key{number}")
        client.set("number", b"5")
        for name in ("number", "absent"):
            client.incr(name, 1)
            client.decr(name, 1)
            client.delete(name)
            client.touch(name, 60)
        _, token = client.gets("key1")
        client.cas("key1", b"y", token)
        client.cas("key1", b"z", token)
        client.cas("absent", b"z", b"1")
        gauges = measured.look()
        told = {name.decode(): value for name, value in client.stats().items()}
        client.flush_all()
        client.close()
        sums = measured.sums()
    finally:
        process.terminate()
        process.wait(10)
    wanted = {
        **{"CmdSet": 34.0, "CmdGets": 41.0, "GetHits": 31.0, "GetMisses": 10.0, "IncrHits": 1.0, "IncrMisses": 1.0},
        **{"DecrHits": 1.0, "DecrMisses": 1.0, "DeleteHits": 1.0, "DeleteMisses": 1.0, "TouchHits": 0.0},
        **{"TouchMisses": 2.0, "CasHits": 1.0, "CasBadval": 1.0, "CasMisses": 1.0, "CmdFlush": 1.0, "Evictions": 0.0},
        **{"NewConnections": 1.0, "CmdTouch": 2.0},
    }
    assert {name: sums[name] for name in wanted} == wanted
    assert sums["CacheHitRate"] == pytest.approx(100 * 31 / 41)
    assert 31_000 < sums["BytesReadIntoMemcached"] < 40_000
    assert gauges["CurrItems"] == 30
    assert gauges["UnusedMemory"] == 64 * MIB - told["bytes"]
    assert gauges["MaxConnections"] == 200
    left = {m.name for m in metrics().values() if "memcached" in m.engines and not m.local_only}
    assert left - set(sums) == set()


def _wait_for_port(address: Address) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address.host, address.port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_swap_and_connection_tracking_through_the_files_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    stat = "7 (valkey) S " + " ".join(["0"] * 10) + " 250 50 " + " ".join(["0"] * 35)
    for folder in (tmp_path / "7", tmp_path / "7" / "task" / "7"):
        (folder / "stat").write_text(stat)
    (tmp_path / "7" / "status").write_text("Name:\tvalkey\nVmRSS:\t    2048 kB\nVmSwap:\t     512 kB\n")
    (tmp_path / "stat").write_text("cpu  100 0 100 800 0 0 0 0 0 0\n")
    (tmp_path / "meminfo").write_text("MemTotal: 4096 kB\nMemAvailable: 1024 kB\n")
    (tmp_path / "net" / "stat").mkdir(parents=True)
    (tmp_path / "net" / "stat" / "nf_conntrack").write_text(
        "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop\n"
        "00000010 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 0000000a 00000002\n"
        "00000010 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000005 00000000\n"
    )
    meter = MachineMeter(root=tmp_path, groups=tmp_path / "none")
    seen, machine = meter.processes([7])[7], meter.machine()
    meter.close()
    assert (seen.swap_bytes, seen.rss_bytes) == (512 * 1024, 2048 * 1024)
    assert (machine.memory_total_bytes, machine.memory_available_bytes) == (4 * MIB, MIB)
    assert machine.conntrack_exceeded == 0x0A + 0x02 + 0x01 + 0x05


def test_every_metric_of_the_guide_comes_from_a_living_engine(
    start_server: Callable[..., Any], span: Callable[..., Span]
) -> None:
    """What is defined for Valkey and Redis and can be measured without the machine is there after a busy minute."""
    primary = start_server("9.1", "--maxmemory", "64mb", "--repl-diskless-sync-delay", "0")
    replica = start_server("9.1", "--replicaof", f"{primary.host} 6379", "--repl-diskless-load", "on-empty-db")
    of_primary, of_replica = span(primary), span(replica)
    deadline = time.monotonic() + 20
    while of_replica.look().get("MasterLinkHealthStatus") != 1.0:
        assert time.monotonic() < deadline, replica.log()
    of_primary.begin()
    of_replica.begin()
    with connect(primary) as client, client.pipeline(transaction=False) as load:
        load.set("a", 1, ex=900).get("a").hset("h", "f", 1).sadd("s", 1).zadd("z", {"a": 1}).lpush("l", 1)
        load.xadd("x", {"a": 1}).pfadd("p", 1).geoadd("g", (1, 2, "m")).eval("return 1", 0).publish("c", "m").expire(
            "s", 900
        )
        load.execute_command("CLUSTER", "INFO").ping()
        load.execute(raise_on_error=False)
    # Reckoned by the engine's own cycle, some time after the key came.
    _until_there(of_primary, "DB0AverageTTL")
    found = {**of_primary.end(), **of_replica.end()}
    wanted = {m.name for m in metrics().values() if "resp" in m.engines and not m.local_only}
    # Known from the primary's offsets over several looks; see tests of monitor.lag and scenarios.
    assert wanted - set(found) - {"ReplicationLag", "GlobalDatastoreReplicationLag"} == set()
