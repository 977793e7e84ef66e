"""Plan transcripts: what is stored and seen, `plan`, and below `----` what the planner answers.

A file is one story: stored values live on from block to block with what the planner changed in them, and so does what
was seen. `CACHEKEEP_REWRITE=1 pytest tests/scripts` writes the answers anew; read the difference before keeping it.

    shard a b c [primary=b] [endpoints=none] [forming] [automatic=no] [hand_over=b]    the shard planner alone
    group a b [window=open]                               a replication group that is being created
    cluster a | memcached 1 2 [window=open]               a cluster of its own
    b: alive replica of=a link=up offset=90 binds=own,R   see stage.py
    reboot b | leave b | delete [retain] | node_type NAME | apply NAME | add 3 | remove 2
    outside [follows] [hands_to] [refuge]                 of a shard: what a server of another region is to it
    hand_over [b] [test] | upgrade 9.2 | later SECONDS
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, Status
from cachekeep.domain.nodes import NodeKey, NodeSpec
from cachekeep.domain.replication_group import HandOver, ReplicationGroup
from cachekeep.plan.cache_cluster import plan_cluster
from cachekeep.plan.decision import Decision, Look
from cachekeep.plan.memcached import plan_memcached
from cachekeep.plan.nodes import with_node_type
from cachekeep.plan.replication_group import plan_group
from cachekeep.plan.shard import Member, Shard, plan_shard
from cachekeep.plan.upstream import HandOut
from tests.properties.stored import (
    CLOSED_WINDOW,
    NOW,
    OPEN_WINDOW,
    PRIMARY_HOST,
    READER_HOST,
    address_of,
    cluster_of,
    families_of,
    group_of,
    memcached_of,
    specs_of,
    upgrading,
)
from tests.scripts.stage import STRANGER, Seen, changes, key_of, leaving, observed, rebooting, spoken, stage_lines

FOLDER = Path(__file__).parent
_AWAY = NodeKey("elsewhere", "stranger")
# File -> the defect that it shows. Its transcript is what should be answered.
DEFECTS: dict[str, str] = {}


class Story:
    """What a transcript has said so far."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.group: ReplicationGroup | None = None
        self.clusters: dict[str, CacheCluster] = {}
        self.shard: dict[str, str] | None = None
        self.order: list[str] = []
        self.now = NOW

    def tell(self, line: str) -> None:
        if ":" in line:
            name, _, text = line.partition(":")
            self.seen[name.strip()] = Seen.read(text)
            return
        verb, *words = line.split()
        names = [w for w in words if "=" not in w]
        options = dict(w.split("=", 1) for w in words if "=" in w)
        getattr(self, f"_{verb}")(names, options)

    # --- what is stored -------------------------------------------------------------------------------------------

    def _shard(self, names: list[str], options: dict[str, str]) -> None:
        self.order = [n for n in names if n != "forming"]
        self.shard = {"primary": self.order[0], "forming": "yes" if "forming" in names else "", **options}
        self.clusters = {n: cluster_of(n, at) for at, n in enumerate(self.order, 1)}

    def _group(self, names: list[str], options: dict[str, str]) -> None:
        self.group = group_of("g", tuple(names), window=_window(options))
        self.clusters = {n: cluster_of(n, at, group="g") for at, n in enumerate(names, 1)}

    def _cluster(self, names: list[str], options: dict[str, str]) -> None:
        self.clusters = {names[0]: cluster_of(names[0], 1, window=_window(options))}

    def _memcached(self, names: list[str], options: dict[str, str]) -> None:
        self.clusters = {"m": memcached_of("m", tuple(int(n) for n in names), window=_window(options))}

    def _reboot(self, names: list[str], _: dict[str, str]) -> None:
        for name in names:
            self.clusters[name] = rebooting(self.clusters[name])

    def _leave(self, names: list[str], _: dict[str, str]) -> None:
        for name in names:
            self.clusters[name] = leaving(self.clusters[name])
        if self.group is not None:
            self.group = replace(self.group, status=Status.MODIFYING)

    def _delete(self, names: list[str], _: dict[str, str]) -> None:
        retain = names == ["retain"]
        kept = None
        if self.group is not None:
            self.group = replace(self.group, status=Status.DELETING, retain_primary=retain)
            kept = self.group.primary_id if retain else None
        self.clusters = {n: c if n == kept else leaving(c) for n, c in self.clusters.items()}

    def _node_type(self, names: list[str], _: dict[str, str]) -> None:
        """Wait for the window."""
        if self.group is not None:
            self.group = replace(self.group, pending=Pending(node_type=names[0]))
        self.clusters = {n: replace(c, pending=Pending(node_type=names[0])) for n, c in self.clusters.items()}

    def _apply(self, names: list[str], _: dict[str, str]) -> None:
        """Apply at once."""
        if self.group is not None:
            self.group = replace(self.group, node_type=names[0], status=Status.MODIFYING)
        self.clusters = {n: with_node_type(c, names[0]) for n, c in self.clusters.items()}

    def _hand_over(self, names: list[str], _: dict[str, str]) -> None:
        """As TestFailover (`test`) and a promotion by ModifyReplicationGroup do; of a shard, the planner's wish."""
        to = next((n for n in names if n != "test"), None)
        if self.shard is not None:
            self.shard["hand_over"] = str(to)
            return
        assert self.group is not None
        shard = replace(self.group.node_groups[0], hand_over=HandOver(to, "test" in names))
        self.group = replace(self.group.with_shard(shard), status=Status.MODIFYING)

    def _outside(self, names: list[str], options: dict[str, str]) -> None:
        """Of a shard: the primary that it follows, that it hands over to, or that has its data; nothing ends it."""
        assert self.shard is not None
        self.shard = {k: v for k, v in self.shard.items() if k not in ("follows", "hands_to", "refuge")}
        self.shard |= dict.fromkeys(names, "stranger")

    def _upgrade(self, names: list[str], _: dict[str, str]) -> None:
        assert self.group is not None
        begun = upgrading(self.group, list(self.clusters.values()), names[0], self.now)
        self.group, self.clusters = begun.group, {c.id: c for c in begun.members}

    def _later(self, names: list[str], _: dict[str, str]) -> None:
        self.now += float(names[0])

    def _add(self, names: list[str], _: dict[str, str]) -> None:
        nodes = tuple(CacheNode(f"{int(n):04d}", address_of(int(n), 11211), "us-east-1b", NOW) for n in names)
        self.clusters["m"] = replace(self.clusters["m"], pending=Pending(nodes_to_add=nodes))

    def _remove(self, names: list[str], _: dict[str, str]) -> None:
        self.clusters["m"] = replace(
            self.clusters["m"], pending=Pending(node_ids_to_remove=tuple(f"{int(n):04d}" for n in names))
        )

    # --- what is answered -----------------------------------------------------------------------------------------

    def plan(self) -> list[str]:
        clusters = list(self.clusters.values())
        by_key = specs_of(*clusters)
        names = _names(clusters)
        specs = {name: by_key[key] for name, key in names.items()}
        nodes = {names[n]: observed(n, seen, specs) for n, seen in self.seen.items() if n in names}
        if self.shard is not None:
            return self._plan_shard(specs, names)
        hold = {names[n]: float(s.told["hold"]) for n, s in self.seen.items() if "hold" in s.told}
        switch = {names[n]: float(s.told["switch_hold"]) for n, s in self.seen.items() if "switch_hold" in s.told}
        look = Look(self.now, nodes, by_key, families_of(*clusters), hold, switch)
        if self.group is not None:
            decision = plan_group(self.group, [self.clusters[m] for m in self.group.member_ids], look)
        elif clusters[0].engine.speaks_resp:
            decision = plan_cluster(clusters[0], look)
        else:
            decision = plan_memcached(clusters[0], look)
        lines = stage_lines(decision.stages, names, specs) + self._told(decision)
        self._keep(decision)
        return [spoken(line, names, specs) for line in lines]

    def _plan_shard(self, specs: dict[str, NodeSpec], names: dict[str, NodeKey]) -> list[str]:
        assert self.shard is not None
        members = []
        for name in self.order:
            seen = self.seen.get(name, Seen())
            configure = seen.told.get("configure")
            members.append(
                Member(
                    specs[name],
                    observed(name, seen, specs),
                    leaving="leaving" in seen.words,
                    reboot="reboot" in seen.words,
                    configure=((configure.split(":")[0], configure.split(":")[1]),) if configure else (),
                    hold_s=float(seen.told.get("hold", "0")),
                    switch_hold_s=float(seen.told.get("switch_hold", "0")),
                    standby="standby" in seen.words,
                    outdated="outdated" in seen.words,
                )
            )
        with_endpoints = self.shard.get("endpoints") != "none"
        plan = plan_shard(
            Shard(
                tuple(members),
                key_of(self.shard["primary"]),
                (PRIMARY_HOST,) if with_endpoints else (),
                READER_HOST if with_endpoints else None,
                forming=bool(self.shard["forming"]),
                hand_over_to=key_of(self.shard["hand_over"]) if "hand_over" in self.shard else None,
                automatic=self.shard.get("automatic") != "no",
                source=STRANGER if "follows" in self.shard else None,
                hand_out=HandOut(_AWAY, STRANGER, (STRANGER.host,)) if "hands_to" in self.shard else None,
                refuge=STRANGER if "refuge" in self.shard else None,
            )
        )
        self.shard["primary"] = plan.primary.cluster_id
        lines = stage_lines(plan.stages, names, specs)
        lines += [f"primary: {plan.primary.cluster_id}"]
        lines += [f"removed: {', '.join(key.cluster_id for key in plan.removed)}"] if plan.removed else []
        lines += ["settled"] if plan.settled else []
        lines += ["lost"] if plan.lost else []
        lines += [f"behind: {plan.behind}"] if plan.behind else []
        return [spoken(line, names, specs) for line in [*lines, f"says: {plan.sentence}"]]

    def _told(self, decision: Decision) -> list[str]:
        lines = []
        for put in decision.puts:
            old = self.group if isinstance(put, ReplicationGroup) else self.clusters[put.id]
            lines += changes(old, put, put.id)
        lines += [f"drops: {c.id}" for c in decision.drops]
        lines += [f"releases: {a}" for a in decision.released]
        lines += ["forgets it"] if decision.forget else []
        lines += [f"event {e.source_id}: {e.message}" for e in decision.events]
        return [*lines, f"looks again in {decision.recheck_s:g} s", f"says: {decision.sentence}"]

    def _keep(self, decision: Decision) -> None:
        for put in decision.puts:
            if isinstance(put, ReplicationGroup):
                self.group = put
            else:
                self.clusters[put.id] = put
        for cluster in decision.drops:
            del self.clusters[cluster.id]


def _window(options: dict[str, str]) -> str:
    return OPEN_WINDOW if options.get("window") == "open" else CLOSED_WINDOW


def _names(clusters: list[CacheCluster]) -> dict[str, NodeKey]:
    """Members of a group by cluster id, Memcached nodes by number, the responder as cfg."""
    names = {}
    for cluster in clusters:
        for node in cluster.nodes:
            names[cluster.id if cluster.engine.speaks_resp else str(int(node.node_id))] = cluster.key(node)
        if cluster.spare is not None:
            names[f"{cluster.id}+"] = cluster.key(cluster.spare.node)
        if cluster.configuration_endpoint is not None:
            names["cfg"] = cluster.discovery_key
    return names


def replay(text: str) -> str:
    """The transcript with the answers that are given now."""
    story = Story()
    answered: list[str] = []
    expected = False
    for line in text.splitlines():
        if expected:
            expected = bool(line.strip())
            if expected:
                continue
        answered.append(line)
        if line == "----":
            answered += story.plan()
            expected = True
        elif line.strip() and not line.startswith("#") and line != "plan":
            story.tell(line)
    return "\n".join(answered) + "\n"


def _transcripts() -> list[object]:
    return [
        pytest.param(
            path,
            id=str(path.relative_to(FOLDER).with_suffix("")),
            marks=[pytest.mark.xfail(strict=True, reason=DEFECTS[path.name])] if path.name in DEFECTS else [],
        )
        for path in sorted(FOLDER.rglob("*.txt"))
    ]


@pytest.mark.parametrize("path", _transcripts())
def test_transcript(path: Path) -> None:
    text = path.read_text()
    answered = replay(text)
    if os.environ.get("CACHEKEEP_REWRITE") and path.name not in DEFECTS:
        path.write_text(answered)
        return
    assert answered == text
