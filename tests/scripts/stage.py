"""What a transcript talks about: members and what is seen of them, and the stored group, cluster or shard.

A line `b: alive replica of=a link=up offset=90 binds=own,R` says all that is seen of b; what it does not say is not
so. In `binds`, `own` is the member's address, P the primary endpoint's and R the reader endpoint's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, Status
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeFacts, NodeKey, NodeSpec, ObservedNode, Process, Role
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import Advertise, Bind, Configure, Follow, Promote, Remove, Start, Step, Stop
from tests.properties.stored import PRIMARY_HOST, READER_HOST, REGION

STRANGER = Address("10.9.9.9", 6379)
Told = dict[str, str]


@dataclass
class Seen:
    """One member as the transcript tells it."""

    words: set[str] = field(default_factory=set)
    told: Told = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Seen:
        seen = cls()
        for word in text.split():
            name, equals, value = word.partition("=")
            if equals:
                seen.told[name] = value
            else:
                seen.words.add(name)
        unknown = seen.words - {"alive", "dead", "silent", "loading", "primary", "replica", "saved", "folder",
                                "leaving", "reboot", "syncing", "listening"}  # fmt: skip
        unknown |= seen.told.keys() - {"of", "link", "offset", "keys", "binds", "failures", "hold", "configure", "pid",
                                       "log", "used", "maxmemory", "announces", "started_with"}  # fmt: skip
        if unknown:
            raise ValueError(f"not a word of the transcripts: {unknown}")
        return seen

    def number(self, name: str) -> int:
        return int(self.told.get(name, "0"))


def observed(name: str, seen: Seen, specs: dict[str, NodeSpec]) -> ObservedNode:
    """name: as in the transcript; specs: by the same names."""
    alive = bool(seen.words & {"alive", "silent", "loading"})
    own = specs[name].address.host
    announces = seen.told.get("announces")
    announced = None
    if announces is not None:
        version, _, members = announces.partition(":")
        announced = (int(version), tuple(specs[m].address for m in members.split(",") if m))
    return replace(
        NOTHING_SEEN,
        process=Process(int(seen.told.get("pid", "1")), "0") if alive else None,
        facts=_facts(seen, own, specs) if alive and "silent" not in seen.words else None,
        folder=alive or bool(seen.words & {"folder", "saved"}),
        saved="saved" in seen.words,
        failures=seen.number("failures"),
        log_tail=tuple(seen.told["log"].replace("_", " ").split("/")) if "log" in seen.told else (),
        started_with=specs[name].config if alive else None,
        announced=announced,
        listening="listening" in seen.words,
    )


def _facts(seen: Seen, own: str, specs: dict[str, NodeSpec]) -> NodeFacts:
    hosts = {"own": own, "P": PRIMARY_HOST, "R": READER_HOST}
    of = seen.told.get("of")
    return NodeFacts(
        version="9.1.2",
        role=Role.REPLICA if "replica" in seen.words else Role.PRIMARY,
        offset=seen.number("offset"),
        keys=seen.number("keys"),
        link_up=seen.told.get("link") == "up",
        syncing="syncing" in seen.words,
        loading="loading" in seen.words,
        primary=None if of is None else specs[of].address if of in specs else STRANGER,
        binds=tuple(hosts[word] for word in seen.told.get("binds", "own").split(",")),
        used_memory_bytes=seen.number("used"),
        config={"maxmemory": seen.told["maxmemory"]} if "maxmemory" in seen.told else {},
    )


def spoken(text: str, names: dict[str, NodeKey], specs: dict[str, NodeSpec]) -> str:
    """Keys and addresses by the names of the transcript."""
    for name, key in names.items():
        text = text.replace(str(key), name).replace(f"'{specs[name].address.host}'", name)
        text = text.replace(str(specs[name].address), name)
    return text.replace(str(STRANGER), "stranger")


def step_line(step: Step, names: dict[str, NodeKey], specs: dict[str, NodeSpec]) -> str:
    by_key = {key: name for name, key in names.items()}
    by_host = {specs[name].address.host: name for name in names} | {PRIMARY_HOST: "P", READER_HOST: "R"}
    match step:
        case Start(spec, keep_data):
            line = f"Start {by_key[spec.key]}"
            line += f" following {by_host[spec.follow.host]}" if spec.follow else ""
            return line + (" with its data" if keep_data else "")
        case Stop(key, _, save):
            return f"Stop {by_key[key]}" + (" saving" if save else "")
        case Remove(key):
            return f"Remove {by_key[key]}"
        case Follow(key, _, primary):
            return f"Follow {by_key[key]} -> {by_host[primary.host]}"
        case Promote(key):
            return f"Promote {by_key[key]}"
        case Bind(key, address, hosts, given_up):
            held = ",".join("own" if h == address.host else by_host[h] for h in hosts)
            lost = ",".join(by_host[h] for h in given_up)
            return f"Bind {by_key[key]} {held}" + (f" giving up {lost}" if lost else "")
        case Configure(key, _, values):
            return f"Configure {by_key[key]} " + " ".join(f"{n}={v}" for n, v in values.items())
        case Advertise(key, members, version):
            return f"Advertise {by_key[key]} {version}:" + ",".join(by_host[m.host] for m in members)


def stage_lines(
    stages: tuple[tuple[Step, ...], ...], names: dict[str, NodeKey], specs: dict[str, NodeSpec]
) -> list[str]:
    return [
        f"stage {number}: " + "; ".join(step_line(step, names, specs) for step in stage)
        for number, stage in enumerate(stages, 1)
    ]


def changes(old: object, new: object, path: str) -> list[str]:
    """What differs between two stored values, a line each; processes are left out, as every round notes them."""
    if isinstance(old, tuple) and isinstance(new, tuple) and path.endswith(".nodes"):
        before = {n.node_id: n for n in old}
        after = {n.node_id: n for n in new}
        lines = [f"{path}: {node_id} gone" for node_id in before if node_id not in after]
        lines += [f"{path}: {node_id} new" for node_id in after if node_id not in before]
        for node_id in before.keys() & after.keys():
            lines += changes(before[node_id], after[node_id], f"{path}[{node_id}]")
        return sorted(lines)
    if old == new or path.endswith(".process"):
        return []
    if isinstance(old, (ReplicationGroup, CacheCluster)) or (is_dataclass(old) and path.endswith("]")):
        return [
            line
            for f in fields(old)  # type: ignore[arg-type]
            for line in changes(getattr(old, f.name), getattr(new, f.name), f"{path}.{f.name}")
        ]
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: object) -> str:
    if isinstance(value, Pending):
        return "something" if value.anything else "nothing"
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value) or "none"
    return str(value)


def leaving(cluster: CacheCluster, node_id: str | None = None) -> CacheCluster:
    if node_id is None:
        return replace(cluster, status=Status.DELETING)
    nodes = tuple(replace(n, status=NodeStatus.DELETING) if n.node_id == node_id else n for n in cluster.nodes)
    version = cluster.configuration_version + 1
    return replace(cluster, nodes=nodes, status=Status.MODIFYING, configuration_version=version)


def rebooting(cluster: CacheCluster) -> CacheCluster:
    nodes = tuple(replace(n, status=NodeStatus.REBOOTING, reboot_from=n.process) for n in cluster.nodes)
    return replace(cluster, status=Status.REBOOTING, nodes=nodes)


def key_of(name: str) -> NodeKey:
    return NodeKey(REGION, name)
