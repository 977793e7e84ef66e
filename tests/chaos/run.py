"""One chaos run: groups under load, actions drawn by a seed, then the reckoning."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from tests.scenarios.conftest import Service, wait_for

from . import planned, settled, unplanned
from .oracle import Verdict, judge
from .world import Broken, Group, Refused, Unreachable, World
from .writers import Load, Reader, Writer, clustered, plain

Action = Callable[[World, Group], str]
CREATE_WITHIN_S = 60.0
# Part of the time in which only planned work is done: a write that is lost then has no death to explain it.
PLANNED_PART = 0.4
WRITERS = 2

# Action -> how often it is drawn, beside the others.
PLANNED: dict[Action, int] = {
    planned.test_failover: 6,
    planned.promote: 2,
    planned.more_replicas: 3,
    planned.fewer_replicas: 3,
    planned.node_type: 3,
    planned.parameters: 3,
    planned.reboot_replica: 2,
    planned.reshard: 6,
    planned.upgrade: 4,
    planned.other_group: 2,
}
UNPLANNED: dict[Action, int] = {
    unplanned.kill_primary: 6,
    unplanned.kill_replica: 3,
    unplanned.stop_primary: 2,
    unplanned.stop_replica: 2,
    unplanned.kill_two: 1,
    unplanned.kill_service: 4,
}


@dataclass
class Outcome:
    """What came of a run. wrong: violations, in sentences; nothing is wrong when it is empty."""

    world: World
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    log: str = ""


@dataclass(frozen=True)
class Plan:
    """seconds: for how long actions are drawn. groups: 1-4, in turn with cluster mode disabled and enabled."""

    seed: int
    seconds: float
    groups: int = 2
    reckless: bool = False


def run(plan: Plan, folder: Path, network: IPv4Network) -> Outcome:
    """Everything that is started here is stopped at the end."""
    service = Service(folder / "state", network, CACHEKEEP_HANG_TIMEOUT="3")
    world = World(service, random.Random(plan.seed), plan.reckless)
    outcome = Outcome(world)
    try:
        service.start()
        for number in range(plan.groups):
            world.groups.append(_create(world, f"g{number}", number % 2 == 1))
        with _loads(world):
            _act(world, plan.seconds)
            outcome.wrong += _calm_down(world)
        outcome.wrong += _reckon(world, outcome)
    except (Broken, Refused, Unreachable, AssertionError) as error:
        outcome.wrong.append(f"{type(error).__name__}: {error}")
    finally:
        outcome.wrong += world.wrong
        unplanned.resume(world)
        service.dispose()
        log = service.log.read_text(errors="replace") if service.log.exists() else ""
        outcome.log = log
        if "Traceback" in log:
            outcome.wrong.append(f"the service's log has a traceback:\n{log[log.index('Traceback') :][:3000]}")
    return outcome


def _create(world: World, name: str, clustered_: bool) -> Group:
    group = Group(name, clustered_, versions=("8.1", "9.1"))
    for number in ("8", "9"):
        own = group.parameter_groups[number] = f"{name}-{number}"
        world.call(
            "create_cache_parameter_group",
            CacheParameterGroupName=own,
            CacheParameterGroupFamily=f"valkey{number}",
            Description="chaos",
        )
        if clustered_:
            values = [{"ParameterName": "cluster-enabled", "ParameterValue": "yes"}]
            world.call("modify_cache_parameter_group", CacheParameterGroupName=own, ParameterNameValues=values)
    version = group.versions[world.chance.randrange(2)]
    size = {"NumNodeGroups": 3, "ReplicasPerNodeGroup": 1} if clustered_ else {"NumCacheClusters": 3}
    world.call(
        "create_replication_group",
        ReplicationGroupId=name,
        ReplicationGroupDescription="chaos",
        CacheNodeType=planned.NODE_TYPES[0],
        EngineVersion=version,
        CacheParameterGroupName=group.parameter_groups[version[0]],
        AutomaticFailoverEnabled=True,
        **size,
    )
    wait_for(lambda: world.described(group)["Status"] == "available", CREATE_WITHIN_S)
    now = world.described(group)
    endpoint = now["ConfigurationEndpoint"] if clustered_ else now["NodeGroups"][0]["PrimaryEndpoint"]
    group.endpoint = (endpoint["Address"], endpoint["Port"])
    connect = (clustered if clustered_ else plain)(*group.endpoint)
    writers = [Writer(f"{name}w{n}", connect, random.Random(n)) for n in range(WRITERS)]
    group.load = Load(writers)
    if not clustered_:
        reader = now["NodeGroups"][0]["ReaderEndpoint"]
        group.load.readers.append(Reader(f"{name}-reader", plain(reader["Address"], reader["Port"]), writers))
    world.note(f"created {version}", name, "asked")
    return group


@contextmanager
def _loads(world: World) -> Iterator[None]:
    loads = [group.load for group in world.groups if group.load]
    for load in loads:
        load.start()
    try:
        yield
    finally:
        for load in loads:
            load.stop()


def _act(world: World, seconds: float) -> None:
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        _housekeeping(world)
        if world.chance.random() < 0.5:
            time.sleep(world.chance.uniform(0.0, min(3.0, seconds / 10)))
        planned_only = passed < seconds * PLANNED_PART
        drawn = PLANNED if planned_only else PLANNED | UNPLANNED
        action = world.chance.choices(list(drawn), list(drawn.values()))[0]
        spared = [group for group in world.groups if not group.deaths]
        if spared and not planned_only:
            # No run ends without the death of a primary in every group: it would prove nothing.
            _do(world, unplanned.kill_primary, world.chance.choice(spared))
        else:
            _do(world, action, world.chance.choice(world.groups))
        time.sleep(0.1)


def _do(world: World, action: Action, group: Group) -> None:
    try:
        outcome = action(world, group)
    except Refused as error:
        outcome = f"refused: {error}"
    except Unreachable as error:
        outcome = f"unreachable: {error}"
    except Broken as error:
        outcome = f"BROKEN: {error}"
        world.wrong.append(str(error))
    world.note(action.__name__, group.id, outcome)


def _housekeeping(world: World) -> None:
    """Start the service again when it is time; let stopped engines go on now and then; failover on again."""
    if world.restart_at is not None and time.monotonic() >= world.restart_at:
        world.restart_at = None
        world.service.start()
        world.note("service started", "", "done")
    if world.stopped and world.chance.random() < 0.1:
        unplanned.resume(world)
    for group in world.groups:
        if group.wants_failover:
            _do(world, planned.failover_on, group)


def _calm_down(world: World) -> list[str]:
    """Nothing more is done: everything must become available, and take writes."""
    if not world.up:
        world.service.start()
    world.restart_at = None
    unplanned.resume(world)
    world.note("calm", "", "done")
    for group in world.groups:
        if group.load:
            group.load.slow_down()
    wrong = settled.unsettled(world)
    for group in world.groups:
        if group.wants_failover:
            _do(world, planned.failover_on, group)
    wrong += settled.unsettled(world)
    for group in world.groups:
        assert group.load is not None
        before = [writer.acknowledged for writer in group.load.writers]
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline and not _all_write(group.load, before):
            time.sleep(0.05)
        if not _all_write(group.load, before):
            wrong.append(f"{group.id} takes no writes at the end: {dict(group.load.errors.most_common(3))}")
    return wrong


def _all_write(load: Load, before: list[int]) -> bool:
    return all(writer.acknowledged > old for writer, old in zip(load.writers, before, strict=True))


def _reckon(world: World, outcome: Outcome) -> list[str]:
    wrong: list[str] = []
    for group in world.groups:
        assert group.load is not None
        found, more = settled.found_in(world, group)
        verdict = judge(group.load.records, found, group.deaths)
        outcome.verdicts[group.id] = verdict
        wrong += [f"{group.id}: {text}" for text in (*more, *verdict.wrong, *group.load.wrong)]
    return wrong + settled.left_over(world)
