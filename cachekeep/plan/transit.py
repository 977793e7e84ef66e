"""A group that goes to TLS, or from it, while it runs: off <-> preferred <-> required. Pure.

| mode | the engine listens on | the group's port is held by |
|---|---|---|
| off | the group's port, plain | the engine |
| preferred | two ports of its own, plain and TLS | the group's switch (endpoint.switch) |
| required | the group's port, TLS | the engine |

From mode to mode an engine is given other ports by CONFIG SET and keeps its data. The switch is started before the
engines leave the port, and takes each address as it becomes free; it is stopped before they take it back, which cuts
the connections that it passes on. In cluster mode all nodes are told at once, and each has the links of its cluster bus
made anew (engine.cluster), so that none is left as it was. The service itself talks to engines past the switch. In
between new connections are refused for some milliseconds. Called by plan.replication_group, group_record,
control.loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeFacts, NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import Advertise, Certify, Remove, Start, Step, Stop
from cachekeep.domain.transit import Transit, live_directives
from cachekeep.plan.decision import SOON_S, Decision, Look

_ENDING = (Status.DELETING, Status.CREATE_FAILED)
# What the switch listens on only ever grows or shrinks as a whole: no client asks for its version.
_VERSION = 1


def switch_spec(group: ReplicationGroup) -> Mapping[NodeKey, NodeSpec]:
    """Of the group's switch; nothing for a group that has always had the mode that it was created with."""
    if not group.transit_moves or not group.endpoints:
        return {}
    key = group.switch_key
    return {key: NodeSpec(key, group.engine, group.version, group.endpoints[0], program=ProgramKind.SWITCH)}


def with_transit(
    group: ReplicationGroup, members: Sequence[CacheCluster], transit: Transit | None
) -> tuple[ReplicationGroup, tuple[CacheCluster, ...]]:
    """The group and its members on their way to another mode; as they are for None."""
    if transit is None:
        return group, tuple(members)
    group = replace(group, transit=transit, transit_moves=True)
    return group, tuple(replace(m, transit=transit, transit_moves=True) for m in members)


def transit_drift(spec: NodeSpec, facts: NodeFacts | None) -> dict[str, str]:
    """What to set so that the engine listens as it shall; all of it together, or nothing."""
    if not spec.transit_moves or facts is None or facts.loading:
        return {}
    wanted = live_directives(spec.transit, spec.address.port, clustered=spec.clustered)
    different = any(facts.config.get(name, value) != value for name, value in wanted.items())
    return wanted if different else {}


def with_switch(group: ReplicationGroup, members: Sequence[CacheCluster], look: Look, decision: Decision) -> Decision:
    """The decision with what the switch and the certificates need before anything else."""
    if group.switch_key not in look.specs:
        return decision
    stages = (*_switch(group, members, look), *_certificates(look))
    if stages and decision.forget:
        return Decision(stages=stages, recheck_s=SOON_S, sentence=f"deleting {group.id}")
    return replace(decision, stages=(*stages, *decision.stages)) if stages else decision


def switch_in_place(group: ReplicationGroup, members: Sequence[CacheCluster], look: Look) -> bool:
    """It does what the group's mode asks of it."""
    if group.switch_key not in look.specs:
        return True
    seen = look.nodes.get(group.switch_key, NOTHING_SEEN)
    if group.transit is not Transit.PREFERRED:
        return seen.process is None
    return seen.listening and seen.announced == (_VERSION, _listened(group, members))


def _listened(group: ReplicationGroup, members: Sequence[CacheCluster]) -> tuple[Address, ...]:
    """Every address that an engine of the group may hold."""
    own = {address for member in members for address in member.addresses}
    return tuple(sorted(own | set(group.endpoints)))


def _switch(group: ReplicationGroup, members: Sequence[CacheCluster], look: Look) -> tuple[tuple[Step, ...], ...]:
    key = group.switch_key
    seen, spec = look.nodes.get(key, NOTHING_SEEN), look.specs[key]
    if group.transit is not Transit.PREFERRED or group.status in _ENDING:
        if seen.process is not None:
            return ((Stop(key, spec.address),),)
        return ((Remove(key),),) if seen.folder else ()
    stages: list[tuple[Step, ...]] = []
    listened = _listened(group, members)
    if seen.announced != (_VERSION, listened):
        stages.append((Advertise(key, listened, _VERSION),))
    if seen.process is None and look.hold_s.get(key, 0.0) <= 0:
        stages.append((Start(spec),))
    return tuple(stages)


def _certificates(look: Look) -> tuple[tuple[Step, ...], ...]:
    """An engine is told of TLS only once there is a certificate in its folder."""
    steps: tuple[Step, ...] = tuple(
        Certify(key, spec)
        for key, spec in look.specs.items()
        if spec.transit.encrypted and transit_drift(spec, look.nodes.get(key, NOTHING_SEEN).facts)
    )
    return (steps,) if steps else ()
