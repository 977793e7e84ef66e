"""DescribeServiceUpdates, DescribeUpdateActions, BatchApplyUpdateAction, BatchStopUpdateAction.

Source: ElastiCache guide, "Self-service updates"; botocore elasticache 2015-02-02.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from cachekeep.api.context import Call, engine_named
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.paging import page
from cachekeep.api.present import Shape
from cachekeep.api.present_update_action import service_update, update_action
from cachekeep.api.service_updates import as_seen, begin, offered_updates, resource_of, shown_status, stop
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.service_updates import (
    ActionStatus,
    Initiator,
    ServiceUpdate,
    UpdateAction,
    UpdateStatus,
    action_name,
)
from cachekeep.plan.service_updates import Resource, asked, is_free

W = TypeVar("W", UpdateStatus, ActionStatus)
_PROOF = "tests/scenarios/test_service_updates.py::"
_UNBORN = (Status.CREATING, Status.CREATE_FAILED, Status.DELETING)
_UNDER_WAY = (ActionStatus.WAITING_TO_START, ActionStatus.IN_PROGRESS, ActionStatus.STOPPING)


class _UnprocessedError(Exception):
    """Why one of the named is left as it is. kind: AWS's code."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def describe_service_updates(call: Call) -> Shape:
    updates = offered_updates(call.services)
    if call.text("ServiceUpdateName") is not None:
        updates = [_find(call)]
    statuses = _statuses(call, "ServiceUpdateStatus", UpdateStatus)
    found = [
        (update, status)
        for update in sorted(updates, key=lambda update: update.name)
        if (status := shown_status(call.services, update)) in statuses
    ]
    shown, marker = page(call, found, lambda pair: pair[0].name)
    return {"Marker": marker, "ServiceUpdates": [service_update(update, status) for update, status in shown]}


def describe_update_actions(call: Call) -> Shape:
    updates = {update.name: update for update in offered_updates(call.services)}
    of_updates = _statuses(call, "ServiceUpdateStatus", UpdateStatus)
    of_actions = _statuses(call, "UpdateActionStatus", ActionStatus)
    seen = (as_seen(call.services, action) for action in call.services.store.all(UpdateAction, call.region))
    wanted = _wanted(call)
    found = []
    for action in seen:
        update = updates.get(action.update) if action is not None else None
        if action is None or update is None or not wanted(action, update):
            continue
        status = shown_status(call.services, update)
        if status in of_updates and action.status in of_actions:
            found.append((action, update, status))
    shown, marker = page(call, sorted(found, key=lambda item: item[0].name), lambda item: item[0].name)
    nodes = bool(call.flag("ShowNodeLevelUpdateStatus"))
    return {
        "Marker": marker,
        "UpdateActions": [update_action(call, *item, nodes=nodes) for item in shown],
    }


def _wanted(call: Call) -> Callable[[UpdateAction, ServiceUpdate], bool]:
    name, engine_text = call.text("ServiceUpdateName"), call.text("Engine")
    engine = engine_named(engine_text) if engine_text is not None else None
    groups = {text.lower() for text in call.texts("ReplicationGroupIds")}
    clusters = {text.lower() for text in call.texts("CacheClusterIds")}
    times = call.params.get("ServiceUpdateTimeRange") or {}
    start, end = times.get("StartTime"), times.get("EndTime")
    if isinstance(start, datetime) and isinstance(end, datetime) and start > end:
        raise invalid_combination("StartTime must be before EndTime.")

    def test(action: UpdateAction, update: ServiceUpdate) -> bool:
        named = groups if action.is_group else clusters
        return (
            (name is None or name == update.name)
            and (engine is None or engine is update.engine)
            and (not (groups or clusters) or action.resource_id in named)
            and (not isinstance(start, datetime) or update.seen_at >= start.timestamp())
            and (not isinstance(end, datetime) or update.seen_at <= end.timestamp())
        )

    return test


def _statuses(call: Call, name: str, words: type[W]) -> set[W]:
    """Those asked for, or all."""
    asked_for = call.texts(name)
    try:
        return {words(text) for text in asked_for} or set(words)
    except ValueError:
        raise invalid_value(f"Invalid {name}: it must be among {', '.join(words)}.") from None


def batch_apply_update_action(call: Call) -> Shape:
    """Begins at once for what is available, and as soon as it is for what is busy; one node per shard at a time."""
    update = _find(call)
    if shown_status(call.services, update) is not UpdateStatus.AVAILABLE:
        raise invalid_value(f"The service update {update.name} is not available any more.")
    return _each(call, update, _apply)


def batch_stop_update_action(call: Call) -> Shape:
    """What runs the new version keeps it, as AWS has it; what does not is left as it was."""
    return _each(call, _find(call), _stop)


def _find(call: Call) -> ServiceUpdate:
    name = call.text("ServiceUpdateName") or ""
    update = next((found for found in offered_updates(call.services) if found.name == name), None)
    if update is None:
        raise Fault("ServiceUpdateNotFoundFault", f"Service update not found: {name[:80]}")
    return update


def _each(call: Call, update: ServiceUpdate, act: Callable[[Call, ServiceUpdate, str, bool], ActionStatus]) -> Shape:
    groups, clusters = call.texts("ReplicationGroupIds"), call.texts("CacheClusterIds")
    if not groups and not clusters:
        raise invalid_value("Name at least one of ReplicationGroupIds or CacheClusterIds.")
    if len(groups) > 20 or len(clusters) > 20:
        raise invalid_value("At most 20 ReplicationGroupIds and 20 CacheClusterIds can be named.")
    done, left = [], []
    for name, is_group in (*((n, True) for n in groups), *((n, False) for n in clusters)):
        shape: Shape = {"ReplicationGroupId" if is_group else "CacheClusterId": name, "ServiceUpdateName": update.name}
        try:
            done.append(shape | {"UpdateActionStatus": act(call, update, name.lower(), is_group).value})
        except _UnprocessedError as error:
            left.append(shape | {"ErrorType": error.kind, "ErrorMessage": str(error)})
        except Fault as fault:
            left.append(shape | {"ErrorType": fault.code, "ErrorMessage": fault.message})
    return {"ProcessedUpdateActions": done, "UnprocessedUpdateActions": left}


def _found(call: Call, update: ServiceUpdate, name: str, is_group: bool) -> tuple[UpdateAction, UpdateAction, Resource]:
    """The action as stored and as seen, and whom it is for."""
    store = call.services.store
    action = store.get(UpdateAction, call.region, action_name(update.name, name, is_group=is_group))
    resource = resource_of(store, action) if action is not None else None
    seen = as_seen(call.services, action) if action is not None else None
    if action is not None and seen is not None and resource is not None:
        return action, seen, resource
    if is_group and store.get(ReplicationGroup, call.region, name) is None:
        raise _UnprocessedError("ReplicationGroupNotFoundFault", f"ReplicationGroup {name[:60]} not found.")
    cluster = None if is_group else store.get(CacheCluster, call.region, name)
    if not is_group and cluster is None:
        raise _UnprocessedError("CacheClusterNotFound", f"CacheCluster not found: {name[:60]}")
    if cluster is not None and cluster.replication_group_id is not None:
        text = f"Cache cluster {name} is updated with its replication group {cluster.replication_group_id}."
        raise _UnprocessedError("InvalidParameterCombination", text)
    raise _UnprocessedError("InvalidParameterValue", f"The service update {update.name} does not apply to {name}.")


def _apply(call: Call, update: ServiceUpdate, name: str, is_group: bool) -> ActionStatus:
    stored, action, resource = _found(call, update, name, is_group)
    if action.status in _UNDER_WAY:
        return action.status
    if action.status is ActionStatus.COMPLETE:
        raise _UnprocessedError("InvalidParameterValue", f"{name} has the service update {update.name} already.")
    state = "InvalidReplicationGroupState" if is_group else "InvalidCacheClusterState"
    if resource.status in _UNBORN:
        raise _UnprocessedError(state, f"{name} is {resource.status.value}.")
    if resource.pending.anything:
        raise _UnprocessedError(state, f"Modifications of {name} wait for its maintenance window: apply them first.")
    if is_free(resource):
        begin(call.services, update, resource)
    return _keep(call, stored, asked(action, Initiator.CUSTOMER, call.services.clock.now()))


def _stop(call: Call, update: ServiceUpdate, name: str, is_group: bool) -> ActionStatus:
    stored, action, resource = _found(call, update, name, is_group)
    match action.status:
        case ActionStatus.STOPPING | ActionStatus.STOPPED:
            return action.status
        case ActionStatus.WAITING_TO_START:
            return _keep(call, stored, _stopped(action, call.services.clock.now()))
        case ActionStatus.IN_PROGRESS if isinstance(resource, ReplicationGroup):
            stop(call.services, resource)
            return _keep(call, stored, action)
        case ActionStatus.IN_PROGRESS:
            text = f"The nodes of {name} are being restarted with the new version, which cannot be stopped."
            raise _UnprocessedError("InvalidCacheClusterState", text)
    raise _UnprocessedError(
        "InvalidParameterValue", f"The service update {update.name} is not being applied to {name}."
    )


def _stopped(action: UpdateAction, now: float) -> UpdateAction:
    return replace(action, status=ActionStatus.STOPPED, modified_at=now)


def _keep(call: Call, stored: UpdateAction, action: UpdateAction) -> ActionStatus:
    """Store the action as it is after what was done to whom it is for; its status."""
    with call.services.store.transaction() as work:
        work.replace(stored, action)
    seen = as_seen(call.services, action) or action
    if seen != action:
        with call.services.store.transaction() as work:
            work.replace(action, seen)
    return seen.status


OPERATIONS: Mapping[str, Entry] = {
    "BatchApplyUpdateAction": Entry(
        batch_apply_update_action,
        Truth.REAL,
        _PROOF + "test_an_update_is_offered_applied_and_complete",
        "By the change of engine version: one node per shard at a time, Memcached node after node.",
    ),
    "BatchStopUpdateAction": Entry(
        batch_stop_update_action,
        Truth.REAL,
        _PROOF + "test_an_update_is_stopped_and_goes_on_later",
        "Of groups: nodes that have the update keep it. What was begun on a cluster of its own cannot be stopped.",
    ),
    "DescribeServiceUpdates": Entry(
        describe_service_updates,
        Truth.REAL,
        _PROOF + "test_an_update_is_offered_applied_and_complete",
        "Made from the engine versions that this machine came to have.",
    ),
    "DescribeUpdateActions": Entry(
        describe_update_actions,
        Truth.REAL,
        _PROOF + "test_an_update_is_offered_applied_and_complete",
        "Read off what the members run.",
    ),
}
