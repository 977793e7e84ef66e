"""Which service updates a group or cluster could take, and how far one has come, by what its members run. Pure.

The policy: a newer version of the same engine and major version; by a setting, of the next major version too. An update
is applied by the change of engine version that there is (plan.engine_change for groups, plan.upgrades for others), and
how far it came is read off the members, so nothing has to be kept in step. Called by the API and by upkeep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Status
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.service_updates import (
    ActionStatus,
    Initiator,
    NodeUpdate,
    ServiceUpdate,
    UpdateAction,
    UpdateStatus,
)
from cachekeep.plan import windows
from cachekeep.plan.upgrades import Runs, why_not

Resource = ReplicationGroup | CacheCluster
# After an attempt of its own that failed, the service waits this long: until the next window, that is.
AUTOMATIC_AGAIN_S = 24 * 3600.0
_RUNNING = (ActionStatus.IN_PROGRESS, ActionStatus.STOPPING)


def status_of(update: ServiceUpdate, installs: Sequence[EngineInstall]) -> UpdateStatus:
    """expired: a newer version of that major version is here, which includes it. cancelled: it is here no longer."""
    same = [i.version for i in installs if i.engine is update.engine and i.version.major == update.version.major]
    if any(version > update.version for version in same):
        return UpdateStatus.EXPIRED
    return UpdateStatus.AVAILABLE if update.version in same else UpdateStatus.CANCELLED


def applies(
    update: ServiceUpdate, resource: Resource, installs: Sequence[EngineInstall], *, next_major: bool = False
) -> bool:
    """The resource could take the update."""
    if resource.engine is not update.engine or resource.substitute is not None or resource.version >= update.version:
        return False
    if update.version.major - resource.version.major > (1 if next_major else 0):
        return False
    now, wanted = Runs(resource.engine, resource.version), Runs(update.engine, update.version)
    return why_not(now, wanted, installs, by_file=isinstance(resource, CacheCluster)) is None


def is_automatic(action: UpdateAction, update: ServiceUpdate, resource: Resource, now: float) -> bool:
    """AutoMinorVersionUpgrade: the window is open, nothing else goes on or waits, and nobody stopped it."""
    return (
        resource.upkeep.auto_minor_version_upgrade
        and resource.version.major == update.version.major
        and action.status is ActionStatus.NOT_APPLIED
        and (not action.failure or now >= action.failed_at + AUTOMATIC_AGAIN_S)
        and is_free(resource)
        and windows.is_open(resource.upkeep.maintenance_window, now)
    )


def is_free(resource: Resource) -> bool:
    return resource.status is Status.AVAILABLE and not resource.pending.anything


def asked(action: UpdateAction, by: Initiator, now: float) -> UpdateAction:
    return replace(
        action,
        status=ActionStatus.WAITING_TO_START,
        asked_at=now,
        asked_by=by,
        modified_at=now,
        failure="",
        nodes=tuple(
            node if node.status is ActionStatus.COMPLETE else _with(node, ActionStatus.WAITING_TO_START, now)
            for node in action.nodes
        ),
    )


def failed(action: UpdateAction, why: str, now: float) -> UpdateAction:
    return replace(action, status=ActionStatus.NOT_APPLIED, failure=why, failed_at=now, modified_at=now)


def observed(
    action: UpdateAction, update: ServiceUpdate, resource: Resource, members: Sequence[CacheCluster], now: float
) -> UpdateAction:
    """The action as the members show it. members: of a group in order, else the cluster itself."""
    running = _is_running(action, update, resource)
    if isinstance(resource, ReplicationGroup):
        change = resource.engine_change if running else None
        nodes = _group_nodes(action, update, resource, members, now)
        status = _status(action, nodes, running=running, stopping=change is not None and change.stopping)
    else:
        nodes = _cluster_nodes(action, update, resource, now)
        status = _status(action, nodes, running=running, stopping=False)
    if status is action.status and nodes == action.nodes:
        return action
    if action.status in _RUNNING and status is ActionStatus.NOT_APPLIED:
        return replace(failed(action, "the change of version was given up; its events say why", now), nodes=nodes)
    return replace(action, status=status, nodes=nodes, modified_at=now)


def _is_running(action: UpdateAction, update: ServiceUpdate, resource: Resource) -> bool:
    if isinstance(resource, CacheCluster):
        return resource.version == update.version and resource.status is Status.MODIFYING
    change = resource.engine_change
    return change is not None and change.done_at is None and change.version == update.version


def _status(action: UpdateAction, nodes: Iterable[NodeUpdate], *, running: bool, stopping: bool) -> ActionStatus:
    if running:
        return ActionStatus.STOPPING if stopping else ActionStatus.IN_PROGRESS
    if all(node.status is ActionStatus.COMPLETE for node in nodes):
        return ActionStatus.COMPLETE
    if action.status is ActionStatus.STOPPING:
        return ActionStatus.STOPPED
    if action.status is ActionStatus.IN_PROGRESS:
        return ActionStatus.NOT_APPLIED  # given up
    if action.status is ActionStatus.COMPLETE:
        return ActionStatus.STOPPED  # taken back by its user: not to be applied again by itself
    return action.status


def _group_nodes(
    action: UpdateAction,
    update: ServiceUpdate,
    group: ReplicationGroup,
    members: Sequence[CacheCluster],
    now: float,
) -> tuple[NodeUpdate, ...]:
    before = {node.cluster_id: node for node in action.nodes}
    running = _is_running(action, update, group)
    turns = {name for shard in group.node_groups if (name := _turn(shard.primary_id, shard.member_ids, members))}
    found = []
    for member in members:
        shard = group.shard_of(member.id)
        node = before.get(member.id) or NodeUpdate(member.id, member.nodes[0].node_id)
        node = replace(node, node_id=member.nodes[0].node_id, shard=shard.id if shard is not None else "")
        if member.version >= update.version:
            status = ActionStatus.COMPLETE
        elif not running:
            status = _resting(action)
        elif group.engine_change is not None and group.engine_change.stopping:
            status = ActionStatus.STOPPING if member.id in turns else ActionStatus.STOPPED
        else:
            status = ActionStatus.IN_PROGRESS if member.id in turns else ActionStatus.WAITING_TO_START
        found.append(_with(node, status, now))
    return tuple(found)


def _turn(primary_id: str, ids: Sequence[str], members: Sequence[CacheCluster]) -> str | None:
    """The member whose second instance comes now: see plan.engine_change.next_in_line."""
    waiting = [
        m.id for m in members if m.id in ids and m.spare is not None and not m.spare.former and not m.spare.leaving
    ]
    return min(waiting, key=lambda name: (name == primary_id, name), default=None)


def _cluster_nodes(
    action: UpdateAction, update: ServiceUpdate, cluster: CacheCluster, now: float
) -> tuple[NodeUpdate, ...]:
    before = {node.node_id: node for node in action.nodes}
    found = []
    for place in cluster.nodes:
        node = before.get(place.node_id) or NodeUpdate(cluster.id, place.node_id)
        there = place.reboot_from is None and place.status is NodeStatus.AVAILABLE
        if cluster.version < update.version:
            status = _resting(action)
        elif there:
            status = ActionStatus.COMPLETE
        elif place.process is not None and place.process == place.reboot_from:
            status = ActionStatus.WAITING_TO_START
        else:
            status = ActionStatus.IN_PROGRESS
        found.append(_with(node, status, now))
    return tuple(found)


def _resting(action: UpdateAction) -> ActionStatus:
    """What a node is that has not the update while nothing is being done."""
    match action.status:
        case ActionStatus.STOPPING | ActionStatus.STOPPED | ActionStatus.COMPLETE:
            return ActionStatus.STOPPED
        case ActionStatus.WAITING_TO_START:
            return ActionStatus.WAITING_TO_START
        case _:
            return ActionStatus.NOT_APPLIED


def _with(node: NodeUpdate, status: ActionStatus, now: float) -> NodeUpdate:
    if node.status is status:
        return node
    node = replace(node, status=status, modified_at=now)
    if status is ActionStatus.IN_PROGRESS:
        return replace(node, started_at=now, ended_at=None)
    if status is ActionStatus.COMPLETE:
        return replace(node, started_at=node.started_at or now, ended_at=now)
    return node
