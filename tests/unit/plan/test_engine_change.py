"""A change of version of a group, one question each; whole stories are in tests/scripts/group and tests/properties."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Status
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeFacts, NodeKey, ObservedNode, Process, Role
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.decision import Decision, Limits, Look
from cachekeep.plan.replication_group import plan_group
from tests.properties.stored import (
    NOW,
    PRIMARY_HOST,
    READER_HOST,
    cluster_of,
    families_of,
    group_of,
    specs_of,
    upgrading,
)

LIMITS = Limits(sync_s=100.0, rollback_s=1000.0)


class Story:
    """A pair that is being upgraded; seen: by node."""

    def __init__(self) -> None:
        members = [replace(cluster_of(n, at, group="g"), status=Status.AVAILABLE) for at, n in enumerate("ab", 1)]
        begun = upgrading(replace(group_of("g", ("a", "b")), status=Status.AVAILABLE), members, "9.2", NOW)
        self.group: ReplicationGroup = begun.group
        self.members: dict[str, CacheCluster] = {m.id: m for m in begun.members}
        self.now = NOW
        self.see_all()

    def see_all(self) -> None:
        """All in their roles; a second instance of a replica is a replica too."""
        primary = self.key("a")
        specs = specs_of(*self.members.values())
        self.seen: dict[NodeKey, ObservedNode] = {}
        for at, (key, spec) in enumerate(specs.items(), 1):
            binds = (spec.address.host, *((PRIMARY_HOST,) if key == primary else ()))
            binds += (READER_HOST,) if key == self.key("b") else ()
            facts = NodeFacts(
                f"{spec.version}.0",
                role=Role.PRIMARY if key == primary else Role.REPLICA,
                primary=None if key == primary else specs[primary].address,
                link_up=True,
                offset=50,
                keys=5,
                binds=binds,
            )
            self.seen[key] = ObservedNode(process=Process(at, "1"), facts=facts, folder=True)

    def key(self, name: str) -> NodeKey:
        return self.members[name].key(self.members[name].nodes[0])

    def spare(self, name: str) -> NodeKey:
        spare = self.members[name].spare
        assert spare is not None
        return self.members[name].key(spare.node)

    def plan(self) -> Decision:
        clusters = list(self.members.values())
        look = Look(self.now, self.seen, specs_of(*clusters), families_of(*clusters), limits=LIMITS)
        decision = plan_group(self.group, clusters, look)
        for put in decision.puts:
            if isinstance(put, ReplicationGroup):
                self.group = put
            else:
                self.members[put.id] = put
        return decision

    def told(self, decision: Decision) -> str:
        return "; ".join(event.message for event in decision.events)


def test_replicas_come_before_the_primary() -> None:
    story = Story()
    story.plan()
    assert story.members["b"].version.short == "9.2"
    assert story.members["a"].version.short == "9.1"
    assert story.members["b"].nodes[0].published == Address("10.0.0.2", 6379)


def test_a_reboot_that_was_asked_of_the_former_instance_is_done_with_its_successor() -> None:
    story = Story()
    node = story.members["b"].nodes[0]
    asked = replace(node, reboot_from="2:1", status=NodeStatus.REBOOTING, process="2:1")
    story.members["b"] = story.members["b"].with_node(asked)
    story.seen[story.key("b")] = replace(story.seen[story.key("b")], process=Process(2, "1"))
    story.plan()
    spare = story.members["b"].spare
    assert spare is not None
    assert (spare.node.reboot_from, spare.node.status) == (None, NodeStatus.AVAILABLE)
    assert story.members["b"].nodes[0].reboot_from is None


def test_a_change_that_does_not_come_into_sync_is_given_up() -> None:
    story = Story()
    for name in "ab":
        story.seen[story.spare(name)] = NOTHING_SEEN
    story.plan()
    story.now += LIMITS.sync_s - 1
    assert story.plan().events == ()
    story.now += 1
    said = story.told(story.plan())
    assert "were not in sync within 100 s" in said
    assert story.group.engine_change is None
    assert all(m.spare is not None and m.spare.leaving for m in story.members.values())


def test_a_new_instance_whose_data_differs_is_never_taken_over_to() -> None:
    story = Story()
    story.plan()
    key = story.spare("a")
    facts = story.seen[key].facts
    assert facts is not None
    story.see_all()
    story.seen[key] = replace(story.seen[key], facts=replace(facts, unexpected_errors=3))
    said = story.told(story.plan())
    assert "could not carry out 3 commands" in said
    assert story.group.engine_change is None
