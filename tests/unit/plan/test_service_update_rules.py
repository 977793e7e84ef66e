"""Which updates apply to whom, when they are applied by themselves, and how far one has come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, Status
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.replication_group import EngineChange, ReplicationGroup
from cachekeep.domain.service_updates import (
    ActionStatus,
    Initiator,
    ServiceUpdate,
    Severity,
    UpdateAction,
    UpdateStatus,
    update_name,
)
from cachekeep.plan.service_updates import AUTOMATIC_AGAIN_S, applies, asked, failed, is_automatic, observed, status_of
from tests.properties.stored import NOW, OPEN_WINDOW, cluster_of, group_of, memcached_of


def _version(text: str) -> EngineVersion:
    return EngineVersion.parse(text)


def _installs(*versions: str, engine: Engine = Engine.VALKEY) -> list[EngineInstall]:
    return [EngineInstall(engine, _version(text), "/usr/bin/x", "here") for text in versions]


def _update(version: str, engine: Engine = Engine.VALKEY) -> ServiceUpdate:
    return ServiceUpdate(update_name(engine, _version(version), NOW), engine, _version(version), NOW, offered=True)


def _group(version: str = "9.1", **more: object) -> ReplicationGroup:
    changed: ReplicationGroup = replace(group_of("g", ("a", "b", "c")), status=Status.AVAILABLE, **more)  # type: ignore[arg-type]
    return replace(changed, version=_version(version))


def _members(*versions: str) -> list[CacheCluster]:
    return [
        replace(cluster_of(name, at, group="g"), status=Status.AVAILABLE, version=_version(version))
        for at, (name, version) in enumerate(zip("abc", versions, strict=True), 1)
    ]


ACTION = UpdateAction("us-east-1", "u/replicationgroup/g", "u", "g", True, NOW)


def test_an_update_is_named_after_version_and_day() -> None:
    assert update_name(Engine.VALKEY, _version("9.1.2"), 1795339845.0) == "valkey-9-1-2-patch-20261122"
    assert _update("9.1.2").severity is Severity.IMPORTANT
    assert _update("9.2.0").severity is Severity.MEDIUM
    assert _update("9.1.2").apply_by == NOW + 30 * 86400


def test_an_update_expires_with_a_newer_one_and_is_cancelled_with_its_program() -> None:
    update = _update("9.1.2")
    assert status_of(update, _installs("9.1.2", "8.1.8", "10.0.1")) is UpdateStatus.AVAILABLE
    assert status_of(update, _installs("9.1.3", "9.1.2")) is UpdateStatus.EXPIRED
    assert status_of(update, _installs("9.1.1")) is UpdateStatus.CANCELLED
    assert status_of(update, _installs("9.1.2", engine=Engine.REDIS)) is UpdateStatus.CANCELLED


@pytest.mark.parametrize(
    ("now", "to", "policy", "yes"),
    [
        ("9.1.1", "9.1.2", False, True),
        ("9.0.5", "9.1.2", False, True),
        ("9.1.2", "9.1.2", False, False),
        ("9.1.3", "9.1.2", False, False),
        ("8.1.8", "9.1.2", False, False),
        ("8.1.8", "9.1.2", True, True),
        ("7.2.1", "9.1.2", True, False),
    ],
)
def test_updates_stay_within_the_major_version_unless_the_setting_says_more(
    now: str, to: str, policy: bool, yes: bool
) -> None:
    assert applies(_update(to), _group(now), _installs(to), next_major=policy) is yes


def test_a_stand_in_and_another_engine_are_not_concerned() -> None:
    assert not applies(_update("9.1.2", Engine.REDIS), _group("9.1.1"), _installs("9.1.2", engine=Engine.REDIS))
    assert not applies(_update("9.1.2"), _group("9.1.1", substitute=Engine.VALKEY), _installs("9.1.2"))


def test_only_what_is_free_within_its_window_is_updated_by_itself() -> None:
    group, update = _group("9.1.1"), _update("9.1.2")
    group = replace(group, upkeep=replace(group.upkeep, maintenance_window=OPEN_WINDOW))
    assert is_automatic(ACTION, update, group, NOW)
    shut = replace(group, upkeep=replace(group.upkeep, auto_minor_version_upgrade=False))
    waits = replace(group, pending=Pending(node_type="cache.m7g.large"))
    for other in (
        _group("9.1.1"),
        shut,
        waits,
        replace(group, status=Status.MODIFYING),
        replace(group, version=_version("8.1")),
    ):
        assert not is_automatic(ACTION, update, other, NOW)
    for status in (ActionStatus.STOPPED, ActionStatus.COMPLETE, ActionStatus.IN_PROGRESS):
        assert not is_automatic(replace(ACTION, status=status), update, group, NOW)
    gave_up = failed(ACTION, "no room", NOW)
    assert not is_automatic(gave_up, update, group, NOW + 60)
    assert is_automatic(gave_up, update, group, NOW + 7 * 86400) == (AUTOMATIC_AGAIN_S <= 7 * 86400)


def _change(version: str, **more: object) -> EngineChange:
    one = (
        Engine.VALKEY,
        _version(version),
        "default.valkey9",
        Engine.VALKEY,
        _version("9.1.1"),
        "default.valkey9",
        NOW,
    )
    return replace(EngineChange(*one), **more)  # type: ignore[arg-type]


def test_how_far_a_groups_update_came_is_read_off_its_members() -> None:
    update, group = _update("9.1.2"), _group("9.1.1")
    action = observed(ACTION, update, group, _members("9.1.1", "9.1.1", "9.1.1"), NOW)
    assert [node.status for node in action.nodes] == [ActionStatus.NOT_APPLIED] * 3
    action = asked(action, Initiator.CUSTOMER, NOW + 1)
    assert {node.status for node in action.nodes} == {ActionStatus.WAITING_TO_START}

    changing = replace(group, status=Status.MODIFYING, engine_change=_change("9.1.2"))
    action = observed(action, update, changing, _members("9.1.1", "9.1.2", "9.1.1"), NOW + 2)
    assert action.status is ActionStatus.IN_PROGRESS
    assert [node.status.value for node in action.nodes] == ["waiting-to-start", "complete", "waiting-to-start"]
    assert action.nodes[1].ended_at == NOW + 2

    stopping = replace(changing, engine_change=_change("9.1.2", stopping=True))
    action = observed(action, update, stopping, _members("9.1.1", "9.1.2", "9.1.1"), NOW + 3)
    assert action.status is ActionStatus.STOPPING
    stopped = observed(action, update, group, _members("9.1.1", "9.1.2", "9.1.1"), NOW + 4)
    assert stopped.status is ActionStatus.STOPPED
    assert [node.status.value for node in stopped.nodes] == ["stopped", "complete", "stopped"]

    done = observed(action, update, _group("9.1.2"), _members("9.1.2", "9.1.2", "9.1.2"), NOW + 5)
    assert done.status is ActionStatus.COMPLETE
    assert done.nodes[1].ended_at == NOW + 2
    back = observed(done, update, group, _members("9.1.1", "9.1.1", "9.1.1"), NOW + 6)
    assert back.status is ActionStatus.STOPPED, "what a user took back is not applied by itself again"


def test_a_change_that_was_given_up_can_be_tried_again() -> None:
    update, group = _update("9.1.2"), _group("9.1.1")
    running = replace(
        observed(ACTION, update, group, _members("9.1.1", "9.1.1", "9.1.1"), NOW), status=ActionStatus.IN_PROGRESS
    )
    after = observed(running, update, group, _members("9.1.1", "9.1.1", "9.1.1"), NOW + 9)
    assert after.status is ActionStatus.NOT_APPLIED
    assert (after.failed_at, bool(after.failure)) == (NOW + 9, True)


def test_memcached_nodes_are_in_progress_one_at_a_time() -> None:
    cluster = memcached_of("m", (1, 2, 3))
    one, two, three = (
        replace(node, process=f"{at}:1", status=NodeStatus.AVAILABLE) for at, node in enumerate(cluster.nodes)
    )
    two = replace(two, reboot_from="1:1", process=None, status=NodeStatus.REBOOTING)
    three = replace(three, reboot_from="2:1", status=NodeStatus.REBOOTING)
    cluster = replace(cluster, status=Status.MODIFYING, nodes=(one, two, three), version=_version("1.6.18"))
    update = _update("1.6.18", Engine.MEMCACHED)
    action = observed(replace(ACTION, is_group=False), update, cluster, [cluster], NOW)
    assert action.status is ActionStatus.IN_PROGRESS
    assert [node.status.value for node in action.nodes] == ["complete", "in-progress", "waiting-to-start"]
