"""Which engine versions can take over from which, and how a change begins."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, NodeStatus, Pending, Spare, Status
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.upgrades import Kind, Runs, begin, begin_single, follows, former_spare, kind_of, reads, why_not
from tests.properties.stored import NOW, cluster_of, group_of


def runs(text: str) -> Runs:
    """`rd62`, `vk91`: the short names of the table below."""
    engine = Engine.REDIS if text.startswith("rd") else Engine.VALKEY
    return Runs(engine, EngineVersion((int(text[2]), int(text[3]), 1)))


NAMES = ("rd62", "rd70", "rd82", "vk80", "vk81", "vk91")
# Rows: primary; columns: replica, in the order of NAMES. As measured by full synchronisations.
FOLLOWS = {
    "rd62": "yyyyyy",
    "rd70": "nyyyyy",
    "rd82": "nnynnn",
    "vk80": "nnyyyy",
    "vk81": "nnyyyy",
    "vk91": "nnyyyy",
}
# Rows: writer of a file; columns: reader.
READS = FOLLOWS | {"vk91": "nnnnny"}


@pytest.mark.parametrize(("one", "other"), list(product(NAMES, NAMES)))
def test_the_measured_pairs(one: str, other: str) -> None:
    column = NAMES.index(other)
    assert follows(runs(other), runs(one)) == (FOLLOWS[one][column] == "y")
    assert reads(runs(other), runs(one)) == (READS[one][column] == "y")


def installs(*names: str) -> list[EngineInstall]:
    return [EngineInstall(runs(n).engine, runs(n).version, "/bin/x", "here") for n in names]


def test_a_refusal_says_what_is_possible() -> None:
    here = installs("vk91", "vk81", "rd70", "rd62")
    assert why_not(runs("rd70"), runs("rd62"), here, by_file=False) == (
        "Redis 6.2.1 cannot replicate from Redis 7.0.1; possible on this machine: Valkey 9.1.1, Valkey 8.1.1."
    )
    assert why_not(runs("vk91"), runs("vk81"), here, by_file=True) == (
        "Valkey 8.1.1 cannot read the files of Valkey 9.1.1, and a single node has no other way; nothing else that is "
        "installed on this machine can take over its data."
    )
    assert why_not(runs("vk91"), runs("vk81"), here, by_file=False) is None
    assert why_not(runs("rd62"), runs("vk91"), here, by_file=True) is None
    why = why_not(runs("vk81"), runs("rd82"), installs("vk91", "rd82"), by_file=False)
    assert why == "The engine cannot be changed from valkey to redis; possible on this machine: Valkey 9.1.1."
    assert why_not(runs("vk81"), runs("rd70"), here, by_file=False, rollback=True) is None
    memcached = [Runs(Engine.MEMCACHED, EngineVersion(v)) for v in ((1, 6, 18), (1, 5, 1))]
    assert why_not(*memcached, here, by_file=True) is None
    assert "from memcached to valkey" in str(why_not(memcached[0], runs("vk91"), here, by_file=True))


def spare_of(name: str, number: int, *, former: bool = False) -> Spare:
    node = CacheNode("0001", Address(f"127.64.9.{number}", 6379), "us-east-1a", NOW, instance="0001-2")
    return Spare(node, runs(name).engine, runs(name).version, "default.x", former=former)


def waiting(name: str, members: list[CacheCluster]) -> tuple[ReplicationGroup, list[CacheCluster]]:
    """A group for which a change to that version waits, and its members."""
    group = group_of("g", tuple(m.id for m in members))
    pending = Pending(
        engine=runs(name).engine, version=runs(name).version, parameter_group="default.x", node_type="cache.t4g.small"
    )
    return replace(group, pending=pending), members


def test_a_change_begins_with_a_second_instance_of_each() -> None:
    members = [cluster_of(f"g-{n:03d}", n, group="g") for n in (1, 2)]
    waits = [replace(m, pending=Pending(spare=spare_of("vk91", n))) for n, m in enumerate(members)]
    group, waits = waiting("vk91", waits)
    begun = begin(group, waits, NOW)
    change = begun.group.engine_change
    assert change is not None
    assert (change.engine, change.version, change.parameter_group) == (Engine.VALKEY, runs("vk91").version, "default.x")
    assert (change.before_engine, change.before_version) == (group.engine, group.version)
    assert (change.started_at, change.deadline, change.done_at) == (NOW, 0.0, None)
    # What the group is does not change before its instances do, and what else waits goes on waiting.
    assert (begun.group.version, begun.group.status) == (group.version, Status.MODIFYING)
    assert begun.group.pending == Pending(node_type="cache.t4g.small")
    for before, after in zip(waits, begun.members, strict=True):
        assert after.spare == before.pending.spare
        assert after.pending == Pending()
        assert (after.version, after.status) == (before.version, Status.MODIFYING)
    assert begun.released == ()


def test_a_rollback_uses_the_former_instances_again() -> None:
    first, second = (cluster_of(f"g-{n:03d}", n, group="g") for n in (1, 2))
    first = replace(first, spare=spare_of("vk81", 1, former=True), pending=Pending(spare=spare_of("vk81", 2)))
    second = replace(second, pending=Pending(spare=spare_of("vk81", 3)))
    assert kind_of(runs("vk91"), runs("vk81"), [first, second]) is Kind.ROLLBACK
    group, members = waiting("vk81", [first, second])
    begun = begin(group, members, NOW)
    assert begun.members[0].spare == spare_of("vk81", 1)
    assert begun.members[1].spare == spare_of("vk81", 3)
    assert begun.released == (spare_of("vk81", 2).node.address,)


def test_a_former_instance_that_leaves_or_is_of_another_version_is_no_way_back() -> None:
    member = replace(cluster_of("g-001", 1, group="g"), spare=spare_of("vk81", 1, former=True))
    assert former_spare(member, runs("vk81")) is not None
    assert former_spare(member, runs("vk80")) is None
    assert former_spare(replace(member, spare=spare_of("vk81", 1)), runs("vk81")) is None
    leaving = replace(spare_of("vk81", 1, former=True), leaving=True)
    assert former_spare(replace(member, spare=leaving), runs("vk81")) is None


def test_nothing_begins_without_all_it_needs() -> None:
    member = cluster_of("g-001", 1, group="g")
    with pytest.raises(ValueError, match="no change of engine waits"):
        begin(group_of("g", ("g-001",)), [member], NOW)
    with pytest.raises(ValueError, match="no second instance"):
        begin(*waiting("vk91", [member]), NOW)
    with pytest.raises(ValueError, match="no second instance"):
        begin(*waiting("vk91", [replace(member, pending=Pending(spare=spare_of("vk81", 1)))]), NOW)
    kept = replace(member, spare=spare_of("rd70", 2, former=True), pending=Pending(spare=spare_of("vk91", 1)))
    with pytest.raises(ValueError, match=r"second instance of Redis 7\.0\.1"):
        begin(*waiting("vk91", [kept]), NOW)
    with pytest.raises(ValueError, match="no change of engine waits"):
        begin_single(member)


def test_a_single_node_is_restarted_with_its_data() -> None:
    pending = Pending(engine=Engine.VALKEY, version=runs("vk91").version, parameter_group="default.x")
    new = begin_single(replace(cluster_of("c", 1), pending=pending))
    assert (new.version, new.parameter_group, new.status) == (runs("vk91").version, "default.x", Status.MODIFYING)
    assert new.pending == Pending()


def test_memcached_nodes_are_rebooted_empty() -> None:
    version = EngineVersion((1, 6, 40))
    pending = Pending(engine=Engine.MEMCACHED, version=version, parameter_group="default.memcached1.6")
    cluster = replace(cluster_of("c", 1), engine=Engine.MEMCACHED, pending=pending)
    cluster = cluster.with_node(replace(cluster.nodes[0], process="7:8"))
    new = begin_single(cluster)
    assert new.version == version
    assert (new.nodes[0].reboot_from, new.nodes[0].status) == ("7:8", NodeStatus.REBOOTING)


@pytest.mark.parametrize(
    ("now", "wanted", "kind"),
    [
        ("vk81", "vk91", Kind.UPGRADE),
        ("vk91", "vk81", Kind.DOWNGRADE),
        ("rd70", "vk81", Kind.UPGRADE),
        ("rd82", "vk81", Kind.UPGRADE),
        ("vk81", "rd82", Kind.DOWNGRADE),
    ],
)
def test_kinds(now: str, wanted: str, kind: Kind) -> None:
    assert kind_of(runs(now), runs(wanted)) is kind
