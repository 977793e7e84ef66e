"""What an engine is started with, as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.host.config_file import bus_port, directive, engine_config, memcached_arguments

FOLDER = Path("/data/us-east-1/a-001/0001")
KEY = NodeKey("us-east-1", "a-001")


def render(version: str, config: Mapping[str, str] = {}, follow: Address | None = None, port: int = 6379) -> list[str]:
    known = EngineVersion.parse(version)
    spec = NodeSpec(KEY, Engine.VALKEY, known, Address("127.64.0.7", port), config, follow)
    return engine_config(spec, FOLDER, known).splitlines()


def test_only_versions_that_know_a_directive_are_given_it() -> None:
    def names(version: str) -> set[str]:
        return {line.split()[0] for line in render(version)}

    assert names("7.0.15") - names("6.2.5") == {"enable-debug-command"}
    assert names("8.1.8") - names("7.0.15") == {"bind-source-addr"}
    assert names("9.1.2") == names("8.1.8")


def test_node_listens_on_its_own_address_alone_and_announces_it() -> None:
    lines = render("9.1.2", follow=Address("127.64.0.1", 6379))
    assert 'bind "127.64.0.7"' in lines
    assert 'replica-announce-ip "127.64.0.7"' in lines
    assert 'save ""' in lines
    assert lines[-1] == 'replicaof "127.64.0.1" 6379'
    assert not any(line.startswith(("unixsocket", "cluster-")) for line in lines)


def test_parameter_replaces_a_default_and_may_stand_several_times() -> None:
    lines = render("9.1.2", {"appendonly": "yes", "client-output-buffer-limit": "normal 0 0 0\nreplica 1mb 1mb 60"})
    assert 'appendonly "yes"' in lines
    assert 'appendonly "no"' not in lines
    assert 'client-output-buffer-limit "normal" "0" "0" "0"' in lines
    assert 'client-output-buffer-limit "replica" "1mb" "1mb" "60"' in lines


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("", ['save ""']),
        ("900 1", ['save "900" "1"']),
        ("900 1 300 10", ['save "900" "1"', 'save "300" "10"']),
    ],
)
def test_save_points_stand_on_lines_of_their_own(value: str, lines: list[str]) -> None:
    for version in ("6.2.5", "9.1.2"):
        assert [line for line in render(version, {"save": value}) if line.startswith("save ")] == lines


CLUSTERED = {"cluster-enabled": "yes"}


def test_node_in_cluster_mode_announces_its_own_address() -> None:
    lines = {line for line in render("9.1.2", CLUSTERED) if line.startswith("cluster-")}
    older = {
        'cluster-enabled "yes"',
        'cluster-config-file "nodes.conf"',
        'cluster-announce-ip "127.64.0.7"',
        'cluster-announce-port "6379"',
        'cluster-announce-bus-port "16379"',
    }
    assert lines == older | {'cluster-port "16379"'}
    assert {line for line in render("6.2.5", CLUSTERED) if line.startswith("cluster-")} == older


@pytest.mark.parametrize(("port", "bus"), [(55535, 65535), (55536, 45536), (65535, 55535)])
def test_bus_of_a_high_port_is_below_it(port: int, bus: int) -> None:
    assert f'cluster-port "{bus}"' in render("7.0.15", CLUSTERED, port=port)
    assert bus_port(port, EngineVersion.parse("7.0")) == bus


def test_high_port_is_refused_where_the_bus_cannot_be_chosen() -> None:
    assert bus_port(55535, EngineVersion.parse("6.2.5")) == 65535
    with pytest.raises(ValueError, match=r"before version 7\.0 the cluster bus of port 55536 would be 65536"):
        render("6.2.5", CLUSTERED, port=55536)


def test_nobody_is_followed_by_the_file_in_cluster_mode() -> None:
    with pytest.raises(ValueError, match="in cluster mode"):
        render("9.1.2", CLUSTERED, follow=Address("127.64.0.1", 6379))


@pytest.mark.parametrize(
    "name",
    [
        "bind",
        "port",
        "dir",
        "replicaof",
        "include",
        "loadmodule",
        "unixsocket",
        "appenddirname",
        "cluster-config-file",
        "cluster-port",
        "cluster-announce-ip",
        "cluster-announce-bus-port",
    ],
)
def test_identity_of_a_node_cannot_be_configured(name: str) -> None:
    with pytest.raises(ValueError, match="set by Cachekeep"):
        render("9.1.2", {name: "x"})


@given(st.text())
def test_no_value_becomes_a_second_line_or_argument(value: str) -> None:
    try:
        lines = list(directive("maxmemory-policy", value))
    except ValueError:
        return
    [line] = lines
    quoted = line.removeprefix("maxmemory-policy ")
    assert "\n" not in quoted
    assert "\r" not in quoted
    inside = quoted[1:-1].replace("\\\\", "").replace('\\"', "")
    assert quoted[0] == quoted[-1] == '"'
    assert '"' not in inside
    assert not inside.endswith("\\")


def memcached(config: Mapping[str, str], run_as: str | None = None) -> list[str]:
    version = EngineVersion.parse("1.6.18")
    return memcached_arguments(NodeSpec(KEY, Engine.MEMCACHED, version, Address("127.64.0.7", 11211), config), run_as)


def test_memcached_is_told_where_to_listen_and_as_whom() -> None:
    assert memcached({"-m": "512", "-C": ""}, "root") == (
        ["-l", "127.64.0.7", "-p", "11211", "-U", "0", "-u", "root", "-m", "512", "-C"]
    )
    assert "-u" not in memcached({})


@pytest.mark.parametrize(
    "config", [{"-l": "127.0.0.1"}, {"--daem": ""}, {"-d": ""}, {"-m": "-d"}, {"-mx": "1"}, {"-m": "1\n"}, {"x": "1"}]
)
def test_memcached_option_that_is_not_safe_is_refused(config: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match=r"set by Cachekeep|not an option|not a value"):
        memcached(config)
