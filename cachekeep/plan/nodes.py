"""What groups, clusters and memcached clusters decide alike about one node. Pure.

Event texts are AWS's where they are known: ElastiCache guide, "Event notifications" and "Testing automatic failover".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachekeep.domain.cache_cluster import (
    NOTHING_PENDING,
    CacheCluster,
    CacheNode,
    NodeStatus,
    ParameterStatus,
    Status,
)
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey, NodeSpec, ObservedNode
from cachekeep.domain.steps import Remove, Step, Stop
from cachekeep.plan.decision import Look
from cachekeep.plan.member import Member
from cachekeep.plan.parameters import Drift, drift
from cachekeep.plan.transit import transit_drift

# Starts in a row that may fail before a creation is called failed.
GIVE_UP_AFTER = 3


@dataclass(frozen=True)
class StoredMember:
    """A node together with the cluster that it belongs to."""

    cluster: CacheCluster
    node: CacheNode

    @property
    def key(self) -> NodeKey:
        return self.cluster.key(self.node)


def shard_member(member: StoredMember, look: Look, *, standby: bool = False, leaving: bool = False) -> Member:
    """The node as the shard planner sees it."""
    seen = look.nodes.get(member.key, NOTHING_SEEN)
    spec = look.specs[member.key]
    return Member(
        spec=spec,
        seen=seen,
        leaving=leaving or member.cluster.status is Status.DELETING or member.node.status is NodeStatus.DELETING,
        reboot=wants_reboot(member.node, seen),
        configure=tuple(sorted(parameter_drift(member, look).live.items())),
        hold_s=look.hold_s.get(member.key, 0.0),
        switch_hold_s=look.switch_hold_s.get(member.key, 0.0),
        standby=standby,
        published=member.node.published.host if member.node.published is not None else None,
        outdated=is_outdated(spec, seen),
    )


def shard_members(cluster: CacheCluster, look: Look) -> list[Member]:
    """The cluster's node, and its second instance if it has one."""
    members = [shard_member(StoredMember(cluster, cluster.nodes[0]), look)]
    if cluster.spare is not None:
        spare = StoredMember(cluster, cluster.spare.node)
        members.append(shard_member(spare, look, standby=True, leaving=cluster.spare.leaving))
    return members


def is_outdated(spec: NodeSpec, seen: ObservedNode) -> bool:
    """It runs another version than it should, or in another cluster mode."""
    facts = seen.facts
    if facts is None or facts.loading:
        return False
    try:
        other_version = not spec.version.covers(EngineVersion.parse(facts.version))
    except ValueError:
        other_version = False
    return other_version or (facts.cluster is not None) != (spec.config.get("cluster-enabled") == "yes")


def wants_reboot(node: CacheNode, seen: ObservedNode) -> bool:
    """The very process that a reboot was asked for still runs."""
    return node.reboot_from is not None and seen.process is not None and seen.process.identity == node.reboot_from


def parameter_drift(member: StoredMember, look: Look) -> Drift:
    """How the running configuration differs from the wanted one."""
    seen = look.nodes.get(member.key, NOTHING_SEEN)
    family = look.parameter_families[member.key]
    wanted = look.specs[member.key].config
    if not member.cluster.engine.speaks_resp:
        running = seen.started_with
        return Drift() if running is None else drift(wanted, running, family)
    if seen.facts is None or seen.facts.loading:
        return Drift()
    found = drift(wanted, seen.facts.config, family)
    listens = transit_drift(look.specs[member.key], seen.facts)
    return replace(found, live={**found.live, **listens}) if listens else found


def node_as_seen(
    cluster: CacheCluster, node: CacheNode, look: Look, *, settled: bool
) -> tuple[CacheCluster, list[str]]:
    """The cluster with what was seen of `node` written down, and the sentences for its events."""
    seen = look.nodes.get(cluster.key(node), NOTHING_SEEN)
    texts: list[str] = []
    identity = seen.process.identity if seen.process else None
    new = replace(node, process=identity, parameters=_parameter_status(StoredMember(cluster, node), look))
    if node.status is NodeStatus.DELETING or cluster.status is Status.DELETING:
        return cluster.with_node(new), texts
    if node.process is not None and identity is None:
        if node.reboot_from is not None:
            # A node that TestFailover replaces was announced as recovering already.
            texts += [] if node.recovering else [f"Cache node {node.node_id} shutdown"]
        elif cluster.status is not Status.CREATING:
            texts.append(f"Recovering cache nodes {node.node_id}")
            new = replace(new, status=NodeStatus.CREATING, recovering=True)
    if node.reboot_from is not None and seen.serving and identity != node.reboot_from:
        new = replace(new, reboot_from=None)
        if not node.recovering:
            texts.append(f"Cache node {node.node_id} restarted")
            new = replace(new, status=NodeStatus.AVAILABLE)
    elif settled and new.reboot_from is None and new.status is not NodeStatus.AVAILABLE:
        if node.recovering:
            texts.append(f"Finished recovery for cache nodes {node.node_id}")
        elif new.status is NodeStatus.CREATING and cluster.status is not Status.CREATING:
            texts.append(f"Added cache node {node.node_id} in availability zone {node.zone}")
        new = replace(new, status=NodeStatus.AVAILABLE, recovering=False)
    return cluster.with_node(new), texts


def _parameter_status(member: StoredMember, look: Look) -> ParameterStatus:
    differences = parameter_drift(member, look)
    if differences.restart:
        return ParameterStatus.PENDING_REBOOT
    return ParameterStatus.APPLYING if differences.live else ParameterStatus.IN_SYNC


def with_node_type(cluster: CacheCluster, node_type: str) -> CacheCluster:
    """The cluster on its way to another node type; nothing else waits any more."""
    before = cluster.node_type if node_type != cluster.node_type else cluster.node_type_before
    return replace(
        cluster, node_type=node_type, node_type_before=before, pending=NOTHING_PENDING, status=Status.MODIFYING
    )


def too_small_sentence(cluster: CacheCluster, look: Look) -> tuple[str | None, str | None]:
    """Why the data does not fit the node type being applied, and the type to go back to; (None, None) if it does."""
    key = cluster.key(cluster.nodes[0])
    facts = look.nodes.get(key, NOTHING_SEEN).facts
    wanted = int(look.specs[key].config.get("maxmemory", "0"))
    if cluster.node_type_before is None or facts is None or not 0 < wanted < facts.used_memory_bytes:
        return None, None
    return (
        f"Node {cluster.id} uses {facts.used_memory_bytes} bytes and would have {wanted}. "
        f"It stays {cluster.node_type_before}.",
        cluster.node_type_before,
    )


def seed_failure(cluster: CacheCluster, seen: ObservedNode) -> str:
    """Why what a node loaded is not what it was to begin with; "" when nothing speaks against it."""
    seed, facts = cluster.seed, seen.facts
    if seed is None or seed.keys is None or facts is None or facts.loading or facts.keys_loaded is None:
        return ""
    if facts.keys_loaded >= seed.keys:
        return ""
    return f"{cluster.id} loaded {facts.keys_loaded} of the {seed.keys} keys that it was to begin with"


def failure_sentence(cluster: CacheCluster, node: CacheNode, seen: ObservedNode) -> str:
    """Why an engine would not start, in its own last words."""
    engine, version = cluster.runs
    words = " | ".join(line.strip() for line in seen.log_tail[-5:]) or "it left no log"
    return (
        f"{engine.label} {version} of {cluster.id} node {node.node_id} did not start at {node.address} "
        f"({seen.failures} tries). Its last log lines: {words}"
    )


def stop_steps(clusters: Sequence[CacheCluster], look: Look) -> tuple[tuple[Step, ...], ...]:
    """One stage that ends every process of these clusters; none when nothing runs."""
    steps = tuple(
        Stop(m.key, m.node.address)
        for m in _all_nodes(clusters)
        if look.nodes.get(m.key, NOTHING_SEEN).process is not None
    )
    return (steps,) if steps else ()


def removal_steps(clusters: Sequence[CacheCluster], look: Look) -> tuple[tuple[Step, ...], ...]:
    """Processes first, then folders; none when nothing is left."""
    stopping = stop_steps(clusters, look)
    removing = tuple(Remove(m.key) for m in _all_nodes(clusters) if look.nodes.get(m.key, NOTHING_SEEN).folder)
    return (*stopping, removing) if removing else stopping


def _all_nodes(clusters: Sequence[CacheCluster]) -> list[StoredMember]:
    return [StoredMember(c, n) for c in clusters for n in (*c.nodes, *((c.spare.node,) if c.spare is not None else ()))]
