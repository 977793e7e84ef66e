"""A change of engine or version that a request asks for: is it possible, and with which parameters.

The change itself is plan.upgrades' (how it begins) and control's (how it goes on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachekeep.api import capacity, choose
from cachekeep.api.context import Call, engine_named, pick_addresses
from cachekeep.api.ops.members import waiting_for
from cachekeep.data.load import family_of
from cachekeep.domain.cache_cluster import CacheCluster, Pending
from cachekeep.domain.faults import Fault, invalid_combination
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.plan.placement import node_bytes
from cachekeep.plan.upgrades import Runs, former_spare, why_not, without_engine


@dataclass(frozen=True)
class Change:
    """What to change to."""

    runs: Runs
    parameters: ParameterGroup

    def waiting(self, pending: Pending) -> Pending:
        """`pending` with this change in it."""
        return replace(
            pending, engine=self.runs.engine, version=self.runs.version, parameter_group=self.parameters.name
        )


def asked_change(
    call: Call, resource: ReplicationGroup | CacheCluster, members: Sequence[CacheCluster]
) -> Change | None:
    """The change that Engine and EngineVersion ask for; None when they name what runs, or nothing.

    members: of a group; for a cluster of its own the cluster itself. Raises InvalidParameterCombination for what cannot
    be, with what can, and InvalidReplicationGroupState while an earlier change can still be taken back by its
    instances, which would be in the way.
    """
    choice = asked_engine(call, resource)
    if choice is None:
        return None
    if resource.substitute is not None or choice.substitute is not None:
        raise invalid_combination("Where Valkey stands in for Redis, the engine version cannot be changed.")
    by_file = isinstance(resource, CacheCluster)
    now, wanted = Runs(resource.engine, resource.version), Runs(choice.engine, choice.version)
    rollback = any(former_spare(member, wanted) is not None for member in members)
    why = why_not(
        now,
        wanted,
        call.services.catalogue.installs(),
        by_file=by_file,
        rollback=rollback,
        expiring_fields=_expiring_fields(call, members),
    )
    if why is not None:
        raise invalid_combination(f"Cannot change {resource.id} from {now} to {wanted}: {why}")
    mode = resource.cluster_mode if isinstance(resource, ReplicationGroup) else ClusterMode.DISABLED
    choose.check_cluster_mode(call, choice, mode, resource.port)
    change = Change(wanted, _parameters(call, resource, choice, mode))
    choose.check_switch(call, resource.parameter_group, change.parameters, clustered=mode is not ClusterMode.DISABLED)
    _check_room(call, resource, members, change)
    return change


def _expiring_fields(call: Call, members: Sequence[CacheCluster]) -> int:
    facts = (capacity.facts_of(call, member) for member in members)
    return max((found.expiring_fields for found in facts if found is not None), default=0)


def asked_engine(call: Call, resource: ReplicationGroup | CacheCluster) -> choose.EngineChoice | None:
    """What Engine and EngineVersion name, if that is not what runs."""
    name, text = call.text("Engine"), call.text("EngineVersion")
    engine = resource.engine if name is None else engine_named(name)
    if engine is resource.engine and not choose.asks_for_another_version(call, engine, resource.version):
        return None
    if engine is not resource.engine and not (engine.speaks_resp and resource.engine.speaks_resp):
        raise invalid_combination(
            f"The engine of {resource.id} cannot be changed from {resource.engine.value} to {engine.value}."
        )
    return choose.choose_engine(call, engine, text, tls=resource.transit.encrypted)


def asks_to_stay(call: Call, resource: ReplicationGroup | CacheCluster) -> bool:
    """EngineVersion names what runs: a change that waits is taken back."""
    return call.text("EngineVersion") is not None and asked_engine(call, resource) is None


def _parameters(
    call: Call, resource: ReplicationGroup | CacheCluster, choice: choose.EngineChoice, mode: ClusterMode
) -> ParameterGroup:
    """The group asked for; else the one in use if it is of the new family, or the new family's default for a default.

    Raises InvalidParameterCombination for a group of the caller's that is of another family.
    """
    now = call.parameter_group(resource.parameter_group)
    if call.text("CacheParameterGroupName") is not None:
        return choose.choose_parameter_group(call, choice, mode, now.name)
    family = family_of(choice.engine, choice.version)
    if now.family == family:
        return now
    if not now.is_default:
        raise invalid_combination(
            f"The parameter group {now.name} is of family {now.family}, and {choice.engine.value} {choice.version} "
            f"needs one of family {family}: name one by CacheParameterGroupName, or default.{family}."
        )
    # A group that came to cluster mode through compatible may have kept a group without cluster-enabled.
    return choose.choose_parameter_group(
        call, choice, mode if choose.is_cluster_mode(call, now) else ClusterMode.DISABLED
    )


def _check_room(
    call: Call, resource: ReplicationGroup | CacheCluster, members: Sequence[CacheCluster], change: Change
) -> None:
    """Memory for second instances, and room for the data under the new parameters."""
    node_type = call.services.catalog.node_types[resource.node_type]
    if resource.engine.speaks_resp:
        capacity.check_data_fits(call, members, node_type, change.parameters)
    if isinstance(resource, CacheCluster):
        return
    for member in members:
        if member.spare is not None and former_spare(member, change.runs) is None:
            raise Fault(
                "InvalidReplicationGroupState",
                f"{member.id} keeps its former instance of {member.spare.engine.label} {member.spare.version} for a "
                f"rollback: {resource.id} can go back to that version now, and to others once it is released.",
            )
    new = [m for m in members if m.pending.spare is None and former_spare(m, change.runs) is None]
    if new:
        capacity.check_more(call, node_type.name, node_bytes(resource.engine, node_type) * len(new))


def claim_second_instances(
    call: Call, work: Transaction, group: ReplicationGroup, members: Sequence[CacheCluster], *, at_once: bool
) -> list[CacheCluster]:
    """Members with what waits for `group`, second instances included. Addresses that wait already are used.

    at_once: former instances of the wanted version will do; when the window opens they may be gone.
    """
    now, pending = call.services.clock.now(), group.pending
    if pending.engine is None or pending.version is None:
        raise ValueError(f"no change of engine waits for {group.id}")
    wanted = Runs(pending.engine, pending.version)
    # Those of a change that was stopped on the way run the wanted version already.
    old = [m for m in members if Runs(*m.runs) != wanted]
    needy = [m for m in old if m.pending.spare is None and not (at_once and former_spare(m, wanted))]
    # Where addresses move, the former instance of a primary lives on at an address of its own.
    each = 2 if call.services.pool.movable and not group.clustered else 1
    addresses = pick_addresses(call, work, group.port, each * len(needy))
    work.claim(group.id, addresses)
    new = {m.id: tuple(addresses[n * each : (n + 1) * each]) for n, m in enumerate(needy)}
    return [
        waiting_for(
            group.pending, m, m.pending.spare.addresses if m.pending.spare is not None else new.get(m.id, ()), now
        )
        for m in members
    ]


def taken_back(work: Transaction, members: Sequence[CacheCluster]) -> list[CacheCluster]:
    """Members for which no change of engine waits any more; addresses that waited are given back."""
    for member in members:
        if member.pending.spare is not None:
            work.release(member.pending.spare.addresses)
    return [replace(member, pending=without_engine(member.pending)) for member in members]
