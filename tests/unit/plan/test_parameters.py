"""Checks of parameter values, engine configuration and drift, without an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.data.load import families, node_types
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.parameters import Parameter
from cachekeep.plan.parameters import (
    RECORDED_ONLY,
    Drift,
    drift,
    effective_values,
    engine_config,
    managed_names,
    node_type_value,
    why_not_allowed,
    why_not_together,
    why_recorded_only,
)

NODE = node_types()["cache.m5.large"]
VALKEY9 = families()["valkey9"]
V9 = EngineVersion.parse("9.1.2")


def _parameter(name: str, family: str = "valkey9") -> Parameter:
    return families()[family].parameters[name]


def _config(
    values: dict[str, str], family: str = "valkey9", engine: str = "valkey", version: str = "9.1.2"
) -> dict[str, str]:
    return dict(engine_config(families()[family], values, NODE, Engine(engine), EngineVersion.parse(version)))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("timeout", ["0", "20", "2147483647"], ["1", "19", "-1", "", "x", "2147483648", "20 ", "٣٠", "1e3"]),
        ("maxmemory-policy", ["allkeys-lfu", "noeviction"], ["foo", "", "allkeys-lfu,noeviction", "ALLKEYS-LFU"]),
        ("maxmemory-samples", ["1", "64"], ["0", "65"]),
        ("slowlog-log-slower-than", ["-1", "-7", "0", "10000"], ["", "-", "ten"]),
        ("notify-keyspace-events", ["", "AKE", "Kg$", "Ex"], ["KZ", "K\nE", "K E"]),
        ("activedefrag", ["yes", "no"], ["on", "1"]),
        ("repl-backlog-size", ["16384", "1099511627776"], ["16383", "1gb"]),
        (
            "rename-commands",
            ["", "FLUSHALL gone", "keys k flushdb f"],
            ["FLUSHALL", "CONFIG c", "KEYS GET", "KEYS a GET a"],
        ),
        ("reserved-memory-percent", ["0", "100"], ["101", "-1"]),
        ("appendonly", ["yes", "no"], ["always", "", "YES"]),
        ("appendfsync", ["always", "everysec", "no"], ["yes", ""]),
        ("auto-aof-rewrite-percentage", ["0", "100"], ["-1", "100%"]),
        ("auto-aof-rewrite-min-size", ["0", "1099511627776"], ["-1", "64mb"]),
        (
            "save",
            ["", "900 1", "900 1 300 10", " ".join(["1 1"] * 16)],
            [
                *(" ", "900", "900 1 300", "0 1", "900 0", "-1 1", "900  1", "900 1 ", "09 1", "a b", "9999999999 1"),
                *("900 1\n300 10", '900 1"', " ".join(["1 1"] * 17)),
            ],
        ),
    ],
)
def test_allowed_values(name: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert why_not_allowed(_parameter(name), value) is None, value
    for value in bad:
        assert why_not_allowed(_parameter(name), value), value


def test_ranges_of_negative_and_broken_numbers() -> None:
    size = _parameter("list-max-ziplist-size", "redis6.x")
    size = Parameter(**{**vars(size), "modifiable": True})
    assert [n for n in range(-7, 4) if why_not_allowed(size, str(n)) is None] == [-5, -4, -3, -2, -1, 1, 2, 3]
    factor = _parameter("chunk_size_growth_factor", "memcached1.6")
    assert why_not_allowed(factor, "1.25") is None
    assert why_not_allowed(factor, "1") is not None
    assert why_not_allowed(factor, "nan") is not None


def test_the_refusals_name_parameter_value_and_choice() -> None:
    assert why_not_allowed(_parameter("maxmemory-policy"), "foo") == (
        "The parameter maxmemory-policy cannot be modified to the value foo; allowed values are "
        "volatile-lru,allkeys-lru,volatile-lfu,allkeys-lfu,volatile-random,allkeys-random,volatile-ttl,noeviction."
    )
    assert (
        why_not_allowed(_parameter("appendonly", "redis5.0"), "yes") == "The parameter appendonly cannot be modified."
    )
    assert why_not_allowed(_parameter("save"), "often") == (
        "The parameter save cannot be modified to the value often; allowed values are "
        "pairs of seconds and changes such as 900 1 300 10, or nothing."
    )
    assert why_not_allowed(_parameter("timeout"), "soon") == (
        "The parameter timeout cannot be modified to the value soon; it takes integers."
    )


def test_the_two_forms_of_reserved_memory_exclude_each_other() -> None:
    assert why_not_together({"reserved-memory": "100", "reserved-memory-percent": "25"})
    assert why_not_together({"reserved-memory": "100"}) is None
    assert why_not_together({"reserved-memory": "0", "reserved-memory-percent": "25"}) is None
    assert why_not_together({"reserved-memory": "100", "reserved-memory-percent": "0"}) is None


@pytest.mark.parametrize(
    ("values", "maxmemory"),
    [
        ({}, 6854542746 * 75 // 100),
        ({"reserved-memory-percent": "0"}, 6854542746),
        ({"reserved-memory-percent": "50"}, 3427271373),
        ({"reserved-memory-percent": "100"}, 2**20),  # 0 would mean no limit
        ({"reserved-memory": "1000000000"}, 5854542746),
        ({"reserved-memory": "9999999999"}, 2**20),
    ],
)
def test_reserved_memory_leaves_the_rest_to_data(values: dict[str, str], maxmemory: int) -> None:
    assert _config(values)["maxmemory"] == str(maxmemory)


def test_families_before_the_percentage_reserve_nothing_by_default() -> None:
    assert _config({}, "redis2.8", "redis", "6.2.5")["maxmemory"] == "6854542746"


def test_replica_buffers_are_a_tenth_of_maxmemory() -> None:
    assert node_type_value("client-output-buffer-limit-replica-hard-limit", NODE) == "685454274"
    lines = _config({})["client-output-buffer-limit"].split("\n")
    assert lines == ["normal 0 0 0", "slave 685454274 685454274 60", "pubsub 33554432 8388608 60"]
    assert effective_values(VALKEY9, {}, NODE)["maxmemory"] == "6854542746"


def test_directives_that_the_engine_version_does_not_know_are_left_out() -> None:
    assert "cluster-databases" in _config({})
    older = _config({}, version="8.0.1")
    assert not {"cluster-databases", "commandlog-reply-larger-than"} & set(older)
    assert "extended-redis-compatibility" in older
    redis62 = _config({}, "redis7", "redis", "6.2.5")
    assert redis62["hash-max-ziplist-entries"] == "512"
    assert not {"hash-max-listpack-entries", "latency-tracking", "cluster-allow-pubsubshard-when-down"} & set(redis62)
    assert "lua-replicate-commands" in _config({}, "redis5.0", "redis", "6.2.5")
    assert "lua-replicate-commands" not in _config({}, "redis5.0", "redis", "7.0.15")


def test_defragmentation_needs_an_engine_that_can() -> None:
    assert "activedefrag" not in _config({"activedefrag": "yes"})
    able = engine_config(VALKEY9, {"activedefrag": "yes"}, NODE, Engine.VALKEY, V9, can_defrag=True)
    assert able["activedefrag"] == "yes"


def test_recorded_parameters_never_reach_an_engine() -> None:
    for name in sorted(RECORDED_ONLY):
        assert why_recorded_only(name)
        for family in families().values():
            if name in family.parameters and family.engine is not Engine.MEMCACHED:
                changed = engine_config(family, {name: "changed"}, NODE, Engine.REDIS, EngineVersion.parse("6.2.5"))
                assert "changed" not in changed.values()
                assert name not in changed


def test_clients_are_bounded_by_open_files() -> None:
    assert _config({})["maxclients"] == "65000"
    bounded = engine_config(VALKEY9, {}, NODE, Engine.VALKEY, V9, open_files=1024)
    assert bounded["maxclients"] == "960"
    memcached = engine_config(
        families()["memcached1.6"], {}, NODE, Engine.MEMCACHED, EngineVersion.parse("1.6.18"), open_files=1024
    )
    assert memcached["-c"] == "960"
    assert memcached["-m"] == str(6537 - 100)


@pytest.mark.parametrize(
    ("name", "wanted", "running"),
    [
        ("maxmemory", "1073741824", "1gb"),
        ("repl-backlog-size", "1000000", "1m"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "Kxe", "exK"),
        (
            "client-output-buffer-limit",
            "normal 0 0 0\nslave 1024 1 6\npubsub 0 0 0",
            "pubsub 0 0 0 normal 0 0 0 replica 1kb 1 6",
        ),
        ("activedefrag", "yes", "YES"),
        ("notify-keyspace-events", "", ""),
        ("save", "900 1 300 10", "300 10 900 1"),
        ("save", "900 1 900 1", "900 1"),
        ("save", "", ""),
        ("maxclients", "65000", "19968"),  # the engine lowered it: not enough open files
    ],
)
def test_the_same_in_other_words_is_no_drift(name: str, wanted: str, running: str) -> None:
    assert not drift({name: wanted}, {name: running}, VALKEY9)


def test_drift_tells_live_from_restart() -> None:
    wanted = _config(
        {"maxmemory-policy": "noeviction", "databases": "4", "client-output-buffer-limit-normal-hard-limit": "9"}
    )
    found = drift(wanted, _config({}), VALKEY9)
    assert found == Drift(
        live={
            "maxmemory-policy": "noeviction",
            "client-output-buffer-limit": "normal 9 0 0 slave 685454274 685454274 60 pubsub 33554432 8388608 60",
        },
        restart={"databases": "4"},
    )
    assert drift(wanted, {"maxmemory-policy": "noeviction"}, VALKEY9) == Drift()


def test_cluster_mode_is_told_by_the_group_and_not_by_its_parameters() -> None:
    assert "cluster-enabled" not in _config({"cluster-enabled": "yes"})
    clustered = engine_config(VALKEY9, {"databases": "4"}, NODE, Engine.VALKEY, V9, clustered=True)
    assert clustered["cluster-enabled"] == "yes"
    assert clustered["cluster-databases"] == "1"
    assert "databases" not in clustered
    assert clustered.items() - _config({"databases": "4"}).items() == {
        ("cluster-enabled", "yes"),
        ("cluster-node-timeout", "5000"),
        ("cluster-allow-replica-migration", "no"),
        ("cluster-migration-barrier", "1000"),
        ("cluster-replica-validity-factor", "0"),
        ("cluster-slot-migration-log-max-len", "64"),
    }
    assert not drift(clustered, {**clustered, "cluster-enabled": "no", "databases": "1"}, VALKEY9)


def test_directives_of_cluster_mode_that_the_engine_version_does_not_know_are_left_out() -> None:
    family = families()["redis6.x"]
    old = engine_config(family, {}, NODE, Engine.REDIS, EngineVersion.parse("6.0.9"), clustered=True)
    assert "cluster-allow-replica-migration" not in old
    assert old["cluster-migration-barrier"] == "1000"
    assert "cluster-databases" not in old


def test_save_points_are_compared_by_meaning() -> None:
    assert drift({"save": "900 1"}, {"save": ""}, VALKEY9).live == {"save": "900 1"}
    assert drift({"save": ""}, {"save": "900 1"}, VALKEY9).live == {"save": ""}
    assert drift({"save": "1 900"}, {"save": "900 1"}, VALKEY9).live == {"save": "1 900"}


def test_memcached_drift_is_a_restart() -> None:
    family = families()["memcached1.6"]
    wanted = _config({"cas_disabled": "1"}, "memcached1.6", "memcached", "1.6.18")
    assert not drift(wanted, {**wanted, "-l": "127.0.0.1", "-p": "11211"}, family)
    before = _config({}, "memcached1.6", "memcached", "1.6.18")
    assert drift(wanted, before, family) == Drift(restart=wanted)
    assert drift(before, wanted, family) == Drift(restart=before)


def test_managed_names_are_all_directives() -> None:
    assert managed_names(_config({})) == sorted(_config({}))


@given(st.data())
def test_an_accepted_value_is_found_again_and_any_other_is_drift(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(p for p, v in VALKEY9.parameters.items() if v.data_type == "integer")))
    parameter = VALKEY9.parameters[name]
    value = str(data.draw(st.integers(-10, 2**40)))
    if why_not_allowed(parameter, value) is None:
        config = _config({name: value})
        assert not drift(config, config, VALKEY9)
        changed = drift(config, _config({}), VALKEY9)
        assert changed or config == _config({})
        assert all("\n" not in text for text in changed.live.values())


@given(st.text(max_size=20), st.sampled_from(sorted(VALKEY9.parameters)))
def test_no_text_breaks_the_check_or_carries_control_characters(value: str, name: str) -> None:
    """A value is written into a configuration file: nothing accepted may start a line of its own."""
    if why_not_allowed(VALKEY9.parameters[name], value) is None and name not in RECORDED_ONLY:
        assert value.isprintable()
        assert '"' not in value


@given(st.integers(1024, 2**30), st.integers(1024, 2**20))
def test_memcached_sizes_fit_each_other(item: int, chunk: int) -> None:
    values = {"max_item_size": str(item), "slab_chunk_max": str(chunk)}
    options = _config(values, "memcached1.6", "memcached", "1.6.18")
    size = int(options["-I"])
    kib = int(options["-o"].rpartition("=")[2])
    assert size % (kib * 1024) == 0
    assert 1024 % kib == 0
    assert kib * 1024 <= max(chunk, 1024)
    assert item <= size <= item * 1.125 + 1024
