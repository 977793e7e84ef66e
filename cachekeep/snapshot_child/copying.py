"""Reads nodes into a generation: by a fork of each where the memory allows, else key by key. Called by `order`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from cachekeep.backup.catalog import Repository
from cachekeep.backup.copy_nodes import copy_nodes
from cachekeep.backup.copy_types import CopyOptions
from cachekeep.backup.pacing import Halt
from cachekeep.backup.survey_types import Node
from cachekeep.domain.snapshot_work import CopyNode, CopyOrder, LaneDone, Outcome, WorkFailed
from cachekeep.snapshot_child.caught_up import await_offset, offset_of
from cachekeep.snapshot_child.compose import Engine, Wish, engine_at, remote_at


def copied(
    repository: Repository,
    order: CopyOrder,
    wish: Wish,
    began: Callable[[str], None],
    stop: threading.Event,
) -> Outcome:
    """Raises WorkFailed and what a copy raises; nothing of it is left then."""
    found = {node.shard: engine_at(wish, node.address) for node in order.nodes}
    _await_replicas(order, wish, found, stop)
    used = {shard: endpoint.survey.used_bytes for shard, endpoint in found.items()}
    # A fork shares its memory with the engine until that is written to: in the worst case all of it is there twice.
    if psutil.virtual_memory().available < sum(used.values()):
        return _without_fork(repository, order, wish, used, began, stop)
    first = found[order.nodes[0].shard]
    nodes = [Node(node.address.host, node.address.port, "", node.slots) for node in order.nodes]
    by_lane = {node.lane: used[order.nodes[at].shard] for at, node in enumerate(nodes)}
    folders = (Path(wish.nodes), by_lane) if wish.nodes else None
    name, lanes = copy_nodes(first.remote, first.survey, nodes, repository, began, folders=folders, stop=stop)
    return Outcome(
        generation=name,
        method="psync",
        rdb_version=max(lane.head.rdb_version for lane in lanes),
        engine=first.survey.target.engine.value,
        version=str(first.survey.target.version),
        databases=tuple(sorted({db for lane in lanes for db in lane.databases})),
        lanes=tuple(
            LaneDone(node.shard, lane.lane, lane.bytes, used[node.shard], lane.keys)
            for node, lane in zip(order.nodes, lanes, strict=True)
        ),
    )


def _await_replicas(order: CopyOrder, wish: Wish, found: Mapping[str, Engine], stop: threading.Event) -> None:
    """Until each node that is not the primary of its shard has what that has now. Raises RemoteError, WorkFailed."""
    if len(order.endpoints) != len(order.nodes):  # a shard is without a primary: nobody knows how far it was
        return
    replicas = [pair for pair in zip(order.nodes, order.endpoints, strict=True) if pair[0].address != pair[1]]
    offsets = [offset_of(remote_at(wish, primary)) for _, primary in replicas]
    for (node, _), offset in zip(replicas, offsets, strict=True):
        if offset is not None:
            await_offset(found[node.shard].remote, offset, Halt(stop).wait)


def _without_fork(
    repository: Repository,
    order: CopyOrder,
    wish: Wish,
    used: Mapping[str, int],
    began: Callable[[str], None],
    stop: threading.Event,
) -> Outcome:
    """By SCAN, which needs no memory and gives each key as it is when it is read. used: bytes of memory by shard."""
    from cachekeep.backup.copy import copy

    source = engine_at(wish, order.endpoints[0])
    options = CopyOptions(source="scan", resume=False)
    report = copy(source.remote, source.survey, repository, options, scratch=None, stop=stop)
    began(report.generation)
    if report.gaps:
        repository.remove(report.generation)
        raise WorkFailed(f"not everything could be read: {report.gaps[0].reason}")

    def lane(node: CopyNode) -> LaneDone:
        alone, keys = len(order.nodes) == 1, sum(report.keys.values())
        return LaneDone(node.shard, "", report.bytes if alone else 0, used[node.shard], keys if alone else None)

    return Outcome(
        generation=report.generation,
        method="scan",
        engine=source.survey.target.engine.value,
        version=str(source.survey.target.version),
        databases=tuple(sorted(db for db, keys in report.keys.items() if keys)),
        lanes=tuple(lane(node) for node in order.nodes),
    )
