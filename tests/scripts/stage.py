"""What a transcript talks about: members and what is seen of them, and the stored group, cluster or shard.

A line `b: alive replica of=a link=up offset=90 binds=own,R` says all that is seen of b; what it does not say is not
so. In `binds`, `own` is the member's address, P the primary endpoint's, R the reader endpoint's and another name that
member's. `silent=7` has not answered for 7 seconds. `known_offset`, `known_binds`: of its last answer. `kept`: what
persistence left. `a+` is the second instance of a member a.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, NodeStatus, Pending, Spare, Status
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeFacts, NodeKey, NodeSpec, ObservedNode, Process, Role
from cachekeep.domain.replication_group import EngineChange, HandOver, ReplicationGroup
from cachekeep.domain.slots import slots_text
from cachekeep.domain.steps import (
    AddSlots,
    Advertise,
    Bind,
    CancelMigrations,
    ClusterSwitchOver,
    Configure,
    Follow,
    Forget,
    Meet,
    MigrateSlots,
    MoveSlots,
    Promote,
    Remove,
    Replicate,
    Start,
    Step,
    Stop,
    SwitchOver,
    TakeOver,
)
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
                                "leaving", "reboot", "syncing", "listening", "standby", "outdated",
                                "tried"}  # fmt: skip
        unknown |= seen.told.keys() - {"of", "link", "offset", "keys", "binds", "failures", "hold", "configure", "pid",
                                       "log", "used", "maxmemory", "announces", "started_with", "silent",
                                       "known_offset", "known_binds", "kept", "errors", "switch_hold",
                                       "version"}  # fmt: skip
        if "silent" in seen.told:
            seen.words.add("silent")
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
        tried_since="tried" in seen.words,
        failures=seen.number("failures"),
        log_tail=tuple(seen.told["log"].replace("_", " ").split("/")) if "log" in seen.told else (),
        started_with=specs[name].config if alive else None,
        announced=announced,
        listening="listening" in seen.words,
        silent_s=float(seen.told.get("silent", "0")),
        known_offset=seen.number("known_offset"),
        known_binds=_hosts(seen.told.get("known_binds", ""), own, specs),
        kept=seen.told.get("kept", ""),
    )


def _hosts(text: str, own: str, specs: dict[str, NodeSpec]) -> tuple[str, ...]:
    hosts = {name: spec.address.host for name, spec in specs.items()}
    hosts |= {"own": own, "P": PRIMARY_HOST, "R": READER_HOST}
    return tuple(hosts.get(word, word) for word in text.split(",") if word)


def _facts(seen: Seen, own: str, specs: dict[str, NodeSpec]) -> NodeFacts:
    of = seen.told.get("of")
    return NodeFacts(
        version=seen.told.get("version", "9.1.2"),
        role=Role.REPLICA if "replica" in seen.words else Role.PRIMARY,
        offset=seen.number("offset"),
        keys=seen.number("keys"),
        link_up=seen.told.get("link") == "up",
        syncing="syncing" in seen.words,
        loading="loading" in seen.words,
        primary=None if of is None else specs[of].address if of in specs else STRANGER,
        binds=_hosts(seen.told.get("binds", "own"), own, specs),
        used_memory_bytes=seen.number("used"),
        config={"maxmemory": seen.told["maxmemory"]} if "maxmemory" in seen.told else {},
        unexpected_errors=seen.number("errors"),
    )


def spoken(text: str, names: dict[str, NodeKey], specs: dict[str, NodeSpec]) -> str:
    """Keys and addresses by the names of the transcript."""
    for name, key in names.items():
        text = text.replace(str(key), name).replace(f"'{specs[name].address.host}'", name)
        text = text.replace(str(specs[name].address), name)
    return text.replace(str(STRANGER), "stranger")


def step_line(step: Step, names: dict[str, NodeKey], specs: dict[str, NodeSpec]) -> str:
    by_key = {key: name for name, key in names.items()}
    by_host = {specs[name].address.host: name for name in names}
    by_host |= {PRIMARY_HOST: "P", READER_HOST: "R", STRANGER.host: "stranger"}

    def held(address: Address, hosts: tuple[str, ...]) -> str:
        return ",".join("own" if h == address.host else by_host.get(h, h) for h in hosts)

    match step:
        case Start(spec, keep_data):
            line = f"Start {by_key[spec.key]}"
            line += f" following {by_host[spec.follow.host]}" if spec.follow else ""
            return line + (" with its data" if keep_data else "")
        case Stop(key, _, save, fence):
            return f"{'Fence' if fence else 'Stop'} {by_key[key]}" + (" saving" if save else "")
        case Remove(key):
            return f"Remove {by_key[key]}"
        case Follow(key, _, primary):
            return f"Follow {by_key[key]} -> {by_host[primary.host]}"
        case Promote(key):
            return f"Promote {by_key[key]}"
        case Bind(key, address, hosts, given_up):
            lost = ",".join(by_host.get(h, h) for h in given_up)
            return f"Bind {by_key[key]} {held(address, hosts)}" + (f" giving up {lost}" if lost else "")
        case SwitchOver(key, address, successor, to, binds, successor_binds, given_up):
            left, taken = held(address, binds), held(to, successor_binds)
            lost = ",".join(by_host.get(h, h) for h in given_up)
            who = by_key.get(successor, "stranger")
            return f"SwitchOver {by_key[key]} -> {who} leaving {left} giving up {lost} for {taken}"
        case Configure(key, _, values):
            return f"Configure {by_key[key]} " + " ".join(f"{n}={v}" for n, v in values.items())
        case Advertise(key, members, version):
            return f"Advertise {by_key[key]} {version}:" + ",".join(by_host[m.host] for m in members)
        case _:
            return clustered_line(step, by_key, by_host)


def clustered_line(step: Step, by_key: dict[NodeKey, str], by_host: dict[str, str]) -> str:
    match step:
        case Meet(key, _, peer):
            return f"Meet {by_key[key]} {by_host[peer.host]}"
        case Forget(key, _, node_id):
            return f"Forget {by_key[key]} {node_id}"
        case AddSlots(key, _, slots, epoch):
            return f"AddSlots {by_key[key]} {slots_text(slots)} at epoch {epoch}"
        case Replicate(key, _, primary_id):
            return f"Replicate {by_key[key]} {primary_id}"
        case TakeOver(key, _, vote):
            return f"TakeOver {by_key[key]}" + (" by vote" if vote else "")
        case ClusterSwitchOver(key):
            return f"ClusterSwitchOver {by_key[key]}"
        case MigrateSlots(key, _, slots, target_id):
            return f"MigrateSlots {by_key[key]} {slots_text(slots)} to {target_id}"
        case CancelMigrations(key):
            return f"CancelMigrations {by_key[key]}"
        case MoveSlots(key, _, slots, _, target, _, others):
            told = ",".join(by_host[a.host] for a in others)
            return f"MoveSlots {by_key[key]} {slots_text(slots)} to {by_host[target.host]} telling {told}"
    raise TypeError(f"not a step: {step!r}")


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
    if isinstance(old, tuple) and isinstance(new, tuple) and path.endswith(".node_groups"):
        shards = {shard.id: shard for shard in new}
        lines = [f"{path}: {shard.id} gone" for shard in old if shard.id not in shards]
        return lines + [line for o in old if o.id in shards for line in changes(o, shards[o.id], f"{path}[{o.id}]")]
    if old == new or path.endswith(".process"):
        return []
    if isinstance(old, Spare) and isinstance(new, Spare):
        return [
            line
            for f in fields(old)
            for line in changes(getattr(old, f.name), getattr(new, f.name), f"{path}.{f.name}")
        ]
    if isinstance(old, (ReplicationGroup, CacheCluster)) or (is_dataclass(old) and path.endswith("]")):
        return [
            line
            for f in fields(old)  # type: ignore[arg-type]
            for line in changes(getattr(old, f.name), getattr(new, f.name), f"{path}.{f.name}")
        ]
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: object) -> str:
    if isinstance(value, Spare):
        return f"{value.node.instance} of {value.version}" + (" former" if value.former else "")
    if isinstance(value, CacheNode):
        return value.instance or value.node_id
    if isinstance(value, HandOver):
        return f"to {value.to or 'the best'}" + (" for a test" if value.test else "")
    if isinstance(value, EngineChange):
        return f"from {value.before_version} to {value.version}" + (" done" if value.done_at is not None else "")
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
