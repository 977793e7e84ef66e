"""Reports, levels and evidence from what is measured; the doors to the world are dictionaries here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cachekeep.data.thresholds import thresholds
from cachekeep.domain.faults import Fault
from cachekeep.domain.metric_ports import Monitoring, SampledKey
from cachekeep.domain.metrics import Buckets, Column, Current, Place, Point, Subject, WatchedTarget
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.domain.verdicts import ThresholdOverrides
from cachekeep.report import health_page
from cachekeep.report.health import HealthReports
from cachekeep.store.sqlite import SqliteStore

NOW = 1_795_000_030.0
REGION = "us-east-1"
WELL = {"CPUUtilization": 10.0, "EngineCPUUtilization": 5.0, "DatabaseMemoryUsagePercentage": 20.0}


@dataclass
class World:
    """Implements Gauges, SeriesStore, Examiner and Meter over what stands here."""

    nodes: dict[Subject, Current] = field(default_factory=dict)
    columns: dict[Subject, Mapping[str, Column]] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    keys: list[SampledKey] = field(default_factory=list)
    infos: list[Mapping[str, str]] = field(default_factory=list)
    refusal: str = ""
    hangs: bool = False
    asked: list[str] = field(default_factory=list)
    now: float = NOW
    engine: str = "valkey"
    trouble: str | None = None

    def add(
        self, node: str, *, group: str = "", node_id: str = "0001", trouble: str | None = None, **more: float
    ) -> None:
        facts = {"role": "primary", "node_type": "cache.big", "engine": self.engine}
        facts |= {"replication_group": group} if group else {}
        values = {**WELL, **more}
        self.nodes[Subject(REGION, node, node_id)] = Current(self.now, values, facts, trouble)

    def current(self, subject: Subject) -> Current | None:
        return self.nodes.get(subject)

    def subjects(self) -> list[Subject]:
        groups = {c.facts["replication_group"] for c in self.nodes.values() if "replication_group" in c.facts}
        return sorted([*self.nodes, *(Subject(REGION, group) for group in groups)])

    def place(self, subject: Subject) -> Place | None:
        return Place(Address("127.0.0.1", 6379)) if subject in self.nodes else None

    def read(self, first: Any, *more: Any) -> Any:
        """Of a series, or of a meter."""
        if isinstance(first, Place):
            return self._info()
        names, start, end, _ = more
        self.asked.append(f"series {first.id} {end - start}")
        if self.trouble:
            raise WorldError(self.trouble)
        node = self.nodes[first]
        # Where nothing else is said, it was always as it is now.
        found = {name: minutes([value] * 2, node.at) for name, value in node.values.items()}
        found |= self.columns.get(first, {})
        return {name: found.get(name, Column()) for name in names}

    async def _info(self) -> Mapping[str, str]:
        self.asked.append("info")
        return self.infos.pop(0) if len(self.infos) > 1 else self.infos[0] if self.infos else {}

    async def clients_by_address(self, place: Place) -> Mapping[str, int]:
        self.asked.append("clients")
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusal:
            raise WorldError(self.refusal)
        return self.clients

    async def sample_keys(self, place: Place, *, most: int, within_s: float) -> Sequence[SampledKey]:
        self.asked.append("keys")
        return self.keys

    def write(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None: ...

    def names(self, subject: Subject, since: int = 0) -> frozenset[str]:
        return frozenset()

    async def latencies(self, place: Place) -> Mapping[str, Buckets]:
        return {}

    async def forget(self, place: Place) -> None: ...

    def close(self) -> Any: ...


@dataclass
class Desk:
    world: World
    store: SqliteStore
    reports: HealthReports

    def metric(self, name: str, metric: str) -> dict[str, Any]:
        tiers = self.reports.report(REGION, name)["tiers"]
        (found,) = [m for tier in tiers for m in tier["metrics"] if m["metric"] == metric]
        return dict(found)

    def watch(self, name: str, added_at: float = 1.0) -> None:
        with self.store.transaction() as work:
            work.insert(WatchedTarget(REGION, name, "redis://somewhere", added_at=added_at))

    def unwatch(self, name: str) -> None:
        with self.store.transaction() as work:
            target = work.get(WatchedTarget, REGION, name)
            assert target is not None
            work.delete(target)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    """One for all tests: making it costs a tenth of a second."""
    it = SqliteStore(tmp_path_factory.mktemp("health") / "store.sqlite")
    yield it
    it.close()


@pytest.fixture
def desk(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("cachekeep.report.health_look._COMMANDS_OVER_S", 0.0)
    with store.transaction() as work:
        for left in (*work.all(WatchedTarget), *work.all(ThresholdOverrides)):
            work.delete(left)
    world = World()
    monitoring = Monitoring(world, world, world, lambda: world.now)
    return Desk(world, store, HealthReports(monitoring, world, store, thresholds(), {"cache.big": 625e6}))


def minutes(values: Sequence[float], now: float = NOW) -> Column:
    starts = [int(now) // 60 * 60 - 60 * (len(values) - at) for at in range(len(values))]
    return Column(starts, [1.0] * len(values), values, values, values)


@contextmanager
def fault(code: str, words: str = "There is no") -> Iterator[None]:
    with pytest.raises(Fault, match=words) as raised:
        yield
    assert raised.value.code == code


def test_a_group_is_judged_by_all_of_its_members_and_each_member_by_itself(desk: Desk) -> None:
    desk.world.add("demo-001", group="demo")
    desk.world.add("demo-002", group="demo", DatabaseMemoryUsagePercentage=85)
    desk.world.add("other-001", group="other", DatabaseMemoryUsagePercentage=75)
    whole = desk.reports.report(REGION, "demo")
    assert (whole["id"], whole["level"], whole["exit_code"]) == ("demo", "risk", 2)
    assert [node["id"] for node in whole["nodes"]] == ["demo-001", "demo-002"]
    assert desk.reports.report(REGION, "demo-001")["level"] == "safe"
    assert desk.reports.levels(REGION) == {"demo": "risk", "other": "warning"}
    assert desk.reports.levels("eu-west-1") == {}


def test_nodes_of_one_cluster_are_told_apart(desk: Desk) -> None:
    desk.world.add("sessions")
    desk.world.add("sessions", node_id="0002", CPUUtilization=85)
    assert desk.metric("sessions", "CPUUtilization")["node"] == "sessions/0002"
    # As it is called here, it can be asked for.
    assert desk.reports.report(REGION, "sessions/0002")["level"] == "risk"
    assert [node["id"] for node in desk.reports.report(REGION, "sessions/0001")["nodes"]] == ["sessions/0001"]
    assert desk.reports.report(REGION, "sessions/0001")["level"] == "safe"
    with fault("ResourceNotFoundFault"):
        desk.reports.report(REGION, "sessions/0003")


def test_a_member_of_a_group_is_found_with_its_node_and_judged_by_the_groups_numbers(desk: Desk) -> None:
    desk.watch("far")
    desk.world.add("far-001", group="far", DatabaseMemoryUsagePercentage=50)
    desk.reports.change(REGION, "far", {"DatabaseMemoryUsagePercentage": {"warning": 40}}, [])
    assert desk.reports.report(REGION, "far-001/0001")["level"] == "warning"


def test_what_there_is_not_is_not_found(desk: Desk) -> None:
    with fault("ResourceNotFoundFault", "no group, cluster or watched target ghost in us-east-1"):
        desk.reports.report(REGION, "ghost")
    with fault("ResourceNotFoundFault"):
        asyncio.run(desk.reports.examined(REGION, "ghost"))
    with fault("ResourceNotFoundFault"):
        desk.reports.change(REGION, "ghost", {"CPUUtilization": {"risk": 90}}, [])


def test_what_is_not_measured_yet_cannot_be_asked(desk: Desk) -> None:
    desk.watch("far")
    report = desk.reports.report(REGION, "far")
    assert (report["level"], report["exit_code"]) == ("unknown", 3)
    (entry,) = desk.reports.overview(REGION)["resources"]
    assert entry == {
        "id": "far", "kind": "target", "level": "unknown", "sentence": "nothing is known yet", "exit_code": 3
    }  # fmt: skip


def test_what_such_a_node_never_has_is_told(desk: Desk) -> None:
    desk.watch("far")
    desk.world.add("far")
    desk.world.engine = "memcached"
    desk.world.add("sessions")
    found = desk.metric("far", "SwapUsage"), desk.metric("sessions", "MemoryFragmentationRatio")
    assert [metric["level"] for metric in found] == ["unknown", "unknown"]
    assert found[0]["sentence"].endswith("it cannot be seen from outside the host of a watched endpoint")
    assert found[1]["sentence"].endswith("Memcached has no such number")
    assert desk.metric("sessions", "SwapUsage")["sentence"].endswith("nothing was measured")


def test_a_silent_node_is_told_in_reports_and_levels(desk: Desk) -> None:
    desk.world.add("demo-001", group="demo")
    desk.world.add("demo-002", group="demo", CPUUtilization=99, trouble="127.0.0.1:6379 did not answer within 1 s")
    assert desk.reports.levels(REGION) == {"demo": "unknown"}
    why = "no numbers from demo-002: 127.0.0.1:6379 did not answer within 1 s"
    report = desk.reports.report(REGION, "demo")
    assert (report["level"], report["exit_code"], report["sentence"]) == ("unknown", 3, why)
    desk.watch("demo")
    (entry,) = desk.reports.overview(REGION)["resources"]
    assert (entry["level"], entry["exit_code"], entry["sentence"]) == ("unknown", 3, why)
    desk.world.add("demo-001", group="demo", DatabaseMemoryUsagePercentage=99)
    desk.world.now += 6
    assert desk.reports.levels(REGION) == {"demo": "risk"}
    assert desk.reports.report(REGION, "demo-002")["exit_code"] == 3


def test_numbers_that_grow_old_are_no_numbers(desk: Desk) -> None:
    desk.world.add("demo-001")
    desk.world.now += 60
    assert desk.reports.report(REGION, "demo-001")["nodes"][0]["trouble"] == "it was not asked for 60 s"


def test_a_warning_weighs_more_than_not_knowing_in_the_code_of_all(desk: Desk) -> None:
    desk.watch("a")
    assert desk.reports.overview(REGION)["exit_code"] == 3
    desk.watch("b")
    desk.world.add("b")
    overview = desk.reports.overview(REGION)
    assert (overview["exit_code"], overview["level"]) == (3, "unknown")
    desk.world.now += 6
    desk.world.add("b", DatabaseMemoryUsagePercentage=75)
    assert desk.reports.overview(REGION)["exit_code"] == 1
    desk.watch("c")
    desk.world.add("c", DatabaseMemoryUsagePercentage=85)
    overview = desk.reports.overview(REGION)
    assert (overview["exit_code"], overview["level"]) == (2, "risk")
    assert [entry["exit_code"] for entry in overview["resources"]] == [3, 1, 2]
    assert desk.reports.overview("eu-west-1")["exit_code"] == 0


def test_the_history_is_read_once_a_minute_and_node(desk: Desk) -> None:
    desk.world.add("demo-001")
    desk.world.columns[Subject(REGION, "demo-001", "0001")] = {"CPUUtilization": minutes([90.0] * 10)}
    assert desk.metric("demo-001", "CPUUtilization")["level"] == "risk"
    desk.world.now += 5
    desk.reports.report(REGION, "demo-001")
    assert desk.world.asked == ["series demo-001 10800"]
    desk.world.now += 60
    desk.world.add("demo-001")
    desk.reports.report(REGION, "demo-001")
    assert len(desk.world.asked) == 2


def test_levels_never_read_files_and_learn_the_history_from_the_task(desk: Desk) -> None:
    desk.world.add("demo-001")
    desk.world.columns[Subject(REGION, "demo-001", "0001")] = {"CPUUtilization": minutes([90.0] * 10)}

    async def story() -> None:
        task = asyncio.create_task(desk.reports.run())
        assert desk.reports.levels(REGION) == {"demo-001": "safe"}
        assert desk.world.asked == []
        async with asyncio.timeout(10):
            while not desk.world.asked:
                await asyncio.sleep(0)
        desk.world.now += 6
        async with asyncio.timeout(10):
            while desk.reports.levels(REGION) != {"demo-001": "risk"}:
                await asyncio.sleep(0)
                desk.world.now += 6
                desk.world.add("demo-001")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_a_level_is_kept_for_seconds_and_no_longer(desk: Desk) -> None:
    desk.world.add("demo-001")
    assert desk.reports.levels(REGION) == {"demo-001": "safe"}
    desk.world.add("demo-001", DatabaseMemoryUsagePercentage=90)
    assert desk.reports.levels(REGION) == {"demo-001": "safe"}
    desk.world.now += 6
    desk.world.add("demo-001", DatabaseMemoryUsagePercentage=90)
    assert desk.reports.levels(REGION) == {"demo-001": "risk"}
    desk.world.add("demo-001", trouble="gone")
    assert desk.reports.levels(REGION) == {"demo-001": "unknown"}


def test_of_many_nodes_only_some_are_judged_anew_at_once(desk: Desk) -> None:
    names = [f"n-{number:03}" for number in range(100)]
    for name in names:
        desk.world.add(name)
    assert set(desk.reports.levels(REGION).values()) == {"safe"}
    rounds = 0
    for name in names:
        desk.world.add(name, DatabaseMemoryUsagePercentage=90)
    while set(desk.reports.levels(REGION).values()) != {"risk"}:
        rounds += 1
        desk.world.now += 6
        for name in names:
            desk.world.add(name, DatabaseMemoryUsagePercentage=90)
    assert 1 < rounds <= 3


def test_the_network_is_judged_by_the_node_types_baseline(desk: Desk) -> None:
    desk.world.add("demo-001", NetworkBytesIn=0.95 * 625e6 * 60)
    assert desk.metric("demo-001", "NetworkBytesIn")["level"] == "risk"


def info(run: str = "r", **usec: int) -> dict[str, str]:
    return {"run_id": run} | {f"cmdstat_{name}": f"calls={n // 100},usec={n}" for name, n in usec.items()}


def test_a_closer_look_names_commands_keys_and_clients(desk: Desk) -> None:
    desk.world.add("demo-001", EngineCPUUtilization=90, ConnectionsUsagePercentage=95, Evictions=12)
    desk.world.infos = [info(keys=1000, get=900_000), info(keys=901_000, get=1_000_000)]
    desk.world.clients = {"10.0.0.7": 90, "10.0.0.8": 10}
    asyncio.run(desk.reports.examined(REGION, "demo-001"))
    cpu, connections = (desk.metric("demo-001", m) for m in ("EngineCPUUtilization", "ConnectionsUsagePercentage"))
    assert cpu["cause"] == "KEYS takes 90% of the time of all commands; it walks the whole keyspace"
    assert cpu["evidence"][0] == "KEYS: 90% of the time of commands, 9,000 calls in the last 1 s"
    assert connections["cause"] == "90 of 100 connections come from 10.0.0.7"


def test_only_what_a_verdict_needs_is_looked_at_and_not_again_at_once(desk: Desk) -> None:
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    desk.world.add("demo-002")
    for name in ("demo-001", "demo-001", "demo-002"):
        asyncio.run(desk.reports.examined(REGION, name))
    assert [what for what in desk.world.asked if not what.startswith("series")] == ["clients"]


def test_evidence_is_forgotten_after_two_minutes(desk: Desk) -> None:
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    desk.world.clients = {"10.0.0.7": 90}
    asyncio.run(desk.reports.examined(REGION, "demo-001"))
    desk.world.now += 121
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    assert desk.metric("demo-001", "ConnectionsUsagePercentage")["cause"].startswith("usual causes: ")


def test_what_refuses_a_closer_look_is_told_with_the_verdict(desk: Desk) -> None:
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    desk.world.refusal = "127.0.0.1:6379 does not let user x run CLIENT LIST; its ACL needs +client|list"
    asyncio.run(desk.reports.examined(REGION, "demo-001"))
    (line,) = desk.metric("demo-001", "ConnectionsUsagePercentage")["evidence"]
    assert line.startswith("a closer look did not succeed: 127.0.0.1:6379 does not let user x")


def test_a_look_that_hangs_ends_and_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachekeep.report.health_look.WITHIN_S", 0.05)
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    desk.world.hangs = True
    asyncio.run(desk.reports.examined(REGION, "demo-001"))
    assert "did not answer within" in desk.metric("demo-001", "ConnectionsUsagePercentage")["evidence"][0]


def test_a_look_that_nobody_waits_for_any_more_goes_on_no_longer(desk: Desk) -> None:
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    desk.world.hangs = True

    async def looked() -> set[asyncio.Task[Any]]:
        asking = asyncio.create_task(desk.reports.examined(REGION, "demo-001"))
        while "clients" not in desk.world.asked:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return {task for task in left if not task.cancelling()}

    assert asyncio.run(looked()) == set()


def test_a_command_time_window_over_a_restart_tells_of_all_since_the_start(desk: Desk) -> None:
    desk.world.add("demo-001", EngineCPUUtilization=90)
    desk.world.infos = [info(run="a", get=900_000), info(run="b", keys=500)]
    asyncio.run(desk.reports.examined(REGION, "demo-001"))
    assert desk.metric("demo-001", "EngineCPUUtilization")["evidence"][0].endswith("since the engine's start")


def test_commands_of_our_own_are_never_named(desk: Desk) -> None:
    desk.world.add("demo-001", EngineCPUUtilization=90)
    old = {"uptime_in_seconds": "1000"}
    desk.world.infos = [info(info=90_000, get=500) | old, info(info=90_400, config=300, get=500) | old]
    asyncio.run(desk.reports.examined(REGION, "demo-001"))
    # Nobody else asked within the look, so it is the time since the start that counts.
    (line,) = desk.metric("demo-001", "EngineCPUUtilization")["evidence"]
    assert line == "GET: 100% of the time of commands, 5 calls since the engine's start"


def test_numbers_of_its_own_change_the_verdict_and_go_when_unset(desk: Desk) -> None:
    desk.watch("far")
    desk.world.add("far", DatabaseMemoryUsagePercentage=50)
    page: Callable[[Mapping[str, Any]], Any] = lambda body: health_page.changed(desk.reports, REGION, body)  # noqa: E731
    assert desk.reports.levels(REGION) == {"far": "safe"}
    answer = page({"name": "FAR", "set": {"databasememoryusagepercentage": {"warning": 40}}})
    assert answer == {"id": "far", "own_thresholds": {"DatabaseMemoryUsagePercentage": {"warning": 40}}}
    assert desk.reports.levels(REGION) == {"far": "warning"}
    assert desk.reports.report(REGION, "far")["own_thresholds"] == answer["own_thresholds"]
    assert desk.reports.thresholds_of(REGION, "far")["DatabaseMemoryUsagePercentage"].warning == desk_bound(">= 40")
    page({"name": "far", "set": {"DatabaseMemoryUsagePercentage": {"risk": 45}}})
    assert desk.reports.levels(REGION) == {"far": "risk"}
    assert page({"name": "far", "unset": ["DatabaseMemoryUsagePercentage"]})["own_thresholds"] == {}
    assert desk.reports.levels(REGION) == {"far": "safe"}


def desk_bound(text: str) -> Any:
    return type(thresholds()[0].warning).parse(text)  # type: ignore[union-attr]


def test_a_target_of_the_same_name_inherits_nothing(desk: Desk) -> None:
    desk.watch("far")
    desk.reports.change(REGION, "far", {"DatabaseMemoryUsagePercentage": {"warning": 40}}, [])
    desk.unwatch("far")
    desk.watch("far", added_at=2.0)
    desk.world.add("far", DatabaseMemoryUsagePercentage=50)
    assert desk.reports.levels(REGION) == {"far": "safe"}
    desk.reports.change(REGION, "far", {"DatabaseMemoryUsagePercentage": {"risk": 90}}, [])
    assert desk.reports.report(REGION, "far")["own_thresholds"] == {"DatabaseMemoryUsagePercentage": {"risk": 90}}


def test_numbers_whose_owner_is_gone_are_swept_away(desk: Desk) -> None:
    desk.watch("far")
    desk.reports.change(REGION, "far", {"CPUUtilization": {"warning": 40}}, [])
    desk.unwatch("far")
    desk.watch("near")
    desk.reports.change(REGION, "near", {"CPUUtilization": {"warning": 40}}, [])
    assert [entry.id for entry in desk.store.all(ThresholdOverrides)] == ["near"]


def test_numbers_made_for_other_thresholds_are_passed_over(desk: Desk) -> None:
    desk.watch("far")
    values = {"Retired": {"risk": 1.0}, "CPUUtilization": {"warning": 40.0}}
    with desk.store.transaction() as work:
        work.insert(ThresholdOverrides(REGION, "far", 1.0, values))
    assert desk.reports.thresholds_of(REGION, "far")["CPUUtilization"].warning == desk_bound(">= 40")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, "MissingParameter", "name"),
        ({"name": 1}, "InvalidParameterValue", "a text"),
        ({"name": "far", "set": []}, "InvalidParameterValue", "set an object"),
        ({"name": "far", "unset": "all"}, "InvalidParameterValue", "unset a list"),
        ({"name": "far", "unset": [1]}, "InvalidParameterValue", "list of metrics"),
        ({"name": "far", "set": {"Nonsense": {"risk": 1}}}, "InvalidParameterValue", "no threshold for 'Nonsense'"),
        ({"name": "far", "set": {"CPUUtilization": 5}}, "InvalidParameterValue", "give warning, risk or both"),
        ({"name": "far", "set": {"CPUUtilization": {"risk": "5"}}}, "InvalidParameterValue", "not a number"),
        ({"name": "far", "set": {"CPUUtilization": {"risk": 10**400}}}, "InvalidParameterValue", "not a number"),
        ({"name": "far", "set": {"CPUUtilization": {"warning": 90}}}, "InvalidParameterValue", "lies above the risk"),
        ({"name": "far", "set": {"NetworkBytesIn": {"warning": 90}}}, "InvalidParameterValue", "both warning and risk"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_and_changes_nothing(
    desk: Desk, body: dict[str, Any], code: str, words: str
) -> None:
    desk.watch("far")
    with fault(code, words):
        health_page.changed(desk.reports, REGION, body)
    assert desk.store.all(ThresholdOverrides) == []


def test_the_page_tells_all_or_one_with_or_without_a_closer_look(desk: Desk) -> None:
    desk.world.add("demo-001", ConnectionsUsagePercentage=95)
    assert "resources" in asyncio.run(health_page.told(desk.reports, REGION, {}))
    asyncio.run(health_page.told(desk.reports, REGION, {"name": "demo-001", "look": "no"}))
    assert "clients" not in desk.world.asked
    assert asyncio.run(health_page.told(desk.reports, REGION, {"name": "DEMO-001"}))["id"] == "demo-001"
    assert "clients" in desk.world.asked


def test_without_its_history_a_node_is_judged_by_its_last_values(desk: Desk) -> None:
    desk.world.add("one", DatabaseMemoryUsagePercentage=99.0)
    desk.world.trouble = "the metrics file cannot be read now"
    assert desk.metric("one", "DatabaseMemoryUsagePercentage")["level"] == "risk"
    assert desk.metric("one", "CPUUtilization")["level"] == "unknown"
    reads = [asked for asked in desk.world.asked if asked.startswith("series")]
    assert len(reads) == 1, "again a minute later"
