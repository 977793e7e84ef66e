"""TestFailover: a planned change of primary in one shard, so that users can watch what a failover does to them."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Call
from cachekeep.api.ops.members import find_group, group_event, members_of, require_available, shown
from cachekeep.api.present import Shape
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.faults import Fault
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import HandOver, NodeGroup, ReplicationGroup

# Source: API reference, TestFailover: up to 15 node groups in any rolling 24-hour period.
MOST_TESTS = 15
PERIOD_S = 24 * 3600.0


def test_failover(call: Call) -> Shape:
    """Ask for a hand-over to the best replica; afterwards the former primary's node is replaced."""
    group = find_group(call, call.params["ReplicationGroupId"])
    wanted = call.params["NodeGroupId"]
    shard = group.shard(wanted)
    if shard is None:
        raise Fault("NodeGroupNotFoundFault", f"Replication group {group.id} has no node group {wanted[:40]}.")
    require_available(group)
    _check_possible(group, shard)
    now = call.services.clock.now()
    with call.services.store.transaction() as work:
        _check_quota(work, group, now)
        tested = tuple(at for at in group.tested_at if at > now - PERIOD_S)
        new = group.with_shard(replace(shard, hand_over=HandOver(test=True)))
        new = replace(new, status=Status.MODIFYING, tested_at=(*tested, now))
        work.replace(group, new)
        # AWS's words: ElastiCache guide, "Testing automatic failover".
        work.add_event(group_event(call, group, f"Test Failover API called for node group {shard.id}"))
        return shown(call, new, members_of(work, new))


def _check_possible(group: ReplicationGroup, shard: NodeGroup) -> None:
    if not group.automatic_failover:
        raise Fault(
            "TestFailoverNotAvailableFault",
            f"Automatic failover is off for replication group {group.id}: turn it on with ModifyReplicationGroup "
            "(AutomaticFailoverEnabled) first.",
        )
    if len(shard.member_ids) < 2:
        raise Fault(
            "TestFailoverNotAvailableFault",
            f"Node group {shard.id} of replication group {group.id} has no replica to fail over to: add one with "
            "IncreaseReplicaCount first.",
        )


def _check_quota(work: Transaction, group: ReplicationGroup, now: float) -> None:
    """Counted over all groups of the region."""
    recent = [at for other in work.all(ReplicationGroup, group.region) for at in other.tested_at if at > now - PERIOD_S]
    if len(recent) >= MOST_TESTS:
        minutes = int((min(recent) + PERIOD_S - now) // 60) + 1
        raise Fault(
            "APICallRateForCustomerExceeded",
            f"Failover was tested on {len(recent)} node groups in the last 24 hours, and {MOST_TESTS} are allowed; "
            f"the next test is possible in {minutes} minutes.",
        )
