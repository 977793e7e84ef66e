"""The life of a Memcached cluster: 1-40 nodes that know nothing of each other, and the discovery responder. Pure.

The responder is a process like a node: it answers `config get cluster` on the configuration endpoint and passes
everything else on to a living node. Its version grows with every change of membership.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import NOTHING_PENDING, CacheCluster, CacheNode, NodeStatus, Status
from cachekeep.domain.nodes import NOTHING_SEEN, ObservedNode
from cachekeep.domain.steps import Advertise, Remove, Start, Step, Stop
from cachekeep.plan import memcached_scaling, windows
from cachekeep.plan.cache_cluster import cluster_event, create_failure, delete, recheck_s, settle
from cachekeep.plan.decision import REST_S, Decision, Look
from cachekeep.plan.nodes import node_as_seen, removal_steps, stop_steps, wants_reboot
from cachekeep.plan.upgrades import begin_single


def plan_memcached(cluster: CacheCluster, look: Look) -> Decision:
    """The next steps of a Memcached cluster. New nodes are in cluster.nodes already, with an address."""
    match cluster.status:
        case Status.DELETING:
            return _delete(cluster, look)
        case Status.CREATE_FAILED:
            return Decision(
                stages=(*stop_steps([cluster], look), *_stop_responder(cluster, look)),
                recheck_s=REST_S,
                sentence="create-failed",
            )
        case _:
            return _keep(cluster, look)


def _delete(cluster: CacheCluster, look: Look) -> Decision:
    responder = _stop_responder(cluster, look)
    if look.nodes.get(cluster.discovery_key, NOTHING_SEEN).folder:
        responder = (*responder, (Remove(cluster.discovery_key),))
    if responder:
        return Decision(stages=(*removal_steps([cluster], look), *responder), recheck_s=0.0, sentence="deleting")
    return delete(cluster, look)


def _stop_responder(cluster: CacheCluster, look: Look) -> tuple[tuple[Step, ...], ...]:
    if look.nodes.get(cluster.discovery_key, NOTHING_SEEN).process is None:
        return ()
    address = look.specs[cluster.discovery_key].address
    return ((Stop(cluster.discovery_key, address),),)


def _keep(cluster: CacheCluster, look: Look) -> Decision:
    failed = create_failure(cluster, look)
    if failed is not None:
        return failed
    if windows.is_due(cluster, look.now):
        begun = begin_single(cluster) if cluster.pending.version is not None else cluster
        return Decision(
            puts=(apply_pending(begun),),
            events=(cluster_event(cluster, look, "Applying modifications in the maintenance window"),),
            recheck_s=0.0,
            sentence="applying pending modifications",
        )
    steps: list[Step] = []
    waiting: list[str] = []
    removed: list[CacheNode] = []
    # A change of version takes one node after the other; a reboot takes those that were named.
    alone = cluster.status is Status.MODIFYING and cluster.scaling is None
    for node in cluster.nodes:
        seen = look.nodes.get(cluster.key(node), NOTHING_SEEN)
        if node.status is NodeStatus.DELETING:
            _leave(cluster, node, seen, steps, removed)
        else:
            _stay(cluster, node, seen, look, steps, waiting, alone=alone)
    if cluster.configuration_endpoint is not None and not look.nodes.get(cluster.discovery_key, NOTHING_SEEN).listening:
        waiting.append("cfg")
    stages: tuple[tuple[Step, ...], ...] = (tuple(steps),) if steps else ()
    return _record(cluster, look, (*_responder(cluster, look), *stages), waiting, removed)


def _leave(
    cluster: CacheCluster, node: CacheNode, seen: ObservedNode, steps: list[Step], removed: list[CacheNode]
) -> None:
    if seen.process is not None:
        steps.append(Stop(cluster.key(node), node.address))
    elif seen.folder:
        steps.append(Remove(cluster.key(node)))
    else:
        removed.append(node)


def _stay(
    cluster: CacheCluster,
    node: CacheNode,
    seen: ObservedNode,
    look: Look,
    steps: list[Step],
    waiting: list[str],
    *,
    alone: bool,
) -> None:
    key = cluster.key(node)
    if seen.process is None:
        waiting.append(node.node_id)
        if look.hold_s.get(key, 0.0) <= 0:
            steps.append(Start(look.specs[key]))
    elif wants_reboot(node, seen):
        waiting.append(node.node_id)
        others_away = any(_is_away(cluster, other, look) for other in cluster.nodes if other != node)
        if not alone or not (others_away or any(isinstance(step, Stop) for step in steps)):
            steps.append(Stop(key, node.address))
    elif not seen.serving:
        waiting.append(node.node_id)


def _is_away(cluster: CacheCluster, node: CacheNode, look: Look) -> bool:
    return node.status is not NodeStatus.DELETING and not look.nodes.get(cluster.key(node), NOTHING_SEEN).serving


def _responder(cluster: CacheCluster, look: Look) -> tuple[tuple[Step, ...], ...]:
    """First what it announces, then that it runs: it never answers without members."""
    if cluster.configuration_endpoint is None:
        return ()
    key = cluster.discovery_key
    seen = look.nodes.get(key, NOTHING_SEEN)
    members = tuple(sorted(n.address for n in cluster.nodes if n.status is not NodeStatus.DELETING))
    stages: list[tuple[Step, ...]] = []
    if seen.announced != (cluster.configuration_version, members):
        stages.append((Advertise(key, members, cluster.configuration_version),))
    if seen.process is None and look.hold_s.get(key, 0.0) <= 0:
        stages.append((Start(look.specs[key]),))
    return tuple(stages)


def apply_pending(cluster: CacheCluster) -> CacheCluster:
    """What waited becomes what is wanted: new nodes join, nodes named for removal are on their way out."""
    pending = cluster.pending
    going = set(pending.node_ids_to_remove)
    staying = tuple(replace(n, status=NodeStatus.DELETING) if n.node_id in going else n for n in cluster.nodes)
    changed = bool(going or pending.nodes_to_add)
    new = replace(
        cluster,
        nodes=staying + pending.nodes_to_add,
        configuration_version=cluster.configuration_version + (1 if changed else 0),
        pending=NOTHING_PENDING,
        status=Status.MODIFYING,
    )
    return memcached_scaling.begun(new, pending)


def _record(
    cluster: CacheCluster,
    look: Look,
    stages: tuple[tuple[Step, ...], ...],
    waiting: list[str],
    removed: list[CacheNode],
) -> Decision:
    leaving = any(n.status is NodeStatus.DELETING for n in cluster.nodes if n not in removed)
    settled = not stages and not waiting and not leaving
    texts: list[str] = []
    new = replace(cluster, nodes=tuple(n for n in cluster.nodes if n not in removed))
    for node in new.nodes:
        new, told = node_as_seen(new, node, look, settled=settled)
        texts += told
    texts += [f"Removed cache node {n.node_id} from cache cluster {cluster.id}" for n in removed]
    rest_s = recheck_s(look, settled=settled)
    pause_s = memcached_scaling.wait_s(new, look.now)
    if settled and pause_s is None:
        new, more = settle(new)
        texts += more
    elif settled and pause_s is not None:
        waiting = [f"the next batch on its way to {new.scaling.node_type}"] if new.scaling is not None else []
        if pause_s <= 0:
            new, more = memcached_scaling.step(new, look.now)
            texts += more
        rest_s = min(rest_s, pause_s)
    return Decision(
        stages=stages,
        puts=(new,) if new != cluster else (),
        events=tuple(cluster_event(cluster, look, text) for text in texts),
        recheck_s=rest_s,
        sentence=f"waiting for {', '.join(waiting)}" if waiting else "all nodes are in place",
        released=tuple(n.address for n in removed),
    )
