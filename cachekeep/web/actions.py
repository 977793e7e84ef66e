"""What users can do to a cache from the dashboard: forms, and the API requests that they stand for. Pure.

Every action is rehearsed first (web.plans) and then carried out with exactly the fields that were rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachekeep.domain.faults import Fault, invalid_value

Answers = Mapping[str, str]
# A row of the status page: a group, or a cluster of none; empty for what is yet to be made.
Target = Mapping[str, Any]
NODE_TYPES = "node_types"
SHARDS = "shards"
NODES = "nodes"
SNAPSHOTS = "snapshots"
LONGEST_ANSWER = 512


@dataclass(frozen=True)
class Field:
    """One answer. choices: fixed values, or NODE_TYPES, SNAPSHOTS, SHARDS, NODES for those of the service, of the
    region or of the target."""

    name: str
    label: str
    kind: str = "text"
    choices: tuple[str, ...] | str = ()
    usual: str = ""
    required: bool = True
    hint: str = ""
    least: int = 0
    most: int = 500


@dataclass(frozen=True)
class Action:
    """kinds: `group`, `cluster`, or `new`. typed: the resource's name must be typed to confirm. clustered_only: for
    groups in cluster mode. with_keys: not for Memcached."""

    name: str
    title: str
    kinds: tuple[str, ...]
    fields: tuple[Field, ...]
    request: Callable[[Answers, Target], dict[str, str]]
    typed: bool = False
    about: str = ""
    clustered_only: bool = False
    with_keys: bool = False

    def fits(self, kind: str, target: Target) -> bool:
        """Whether it is offered for this resource."""
        if self.with_keys and target.get("engine") == "memcached":
            return False
        return kind in self.kinds and (not self.clustered_only or bool(target.get("shards")))

    def on(self, name: str) -> str:
        """`Delete of orders`, `Create replication group orders`."""
        return f"{self.title} {name}" if self.kinds == ("new",) else f"{self.title} of {name}"


def answers_of(action: Action, form: Mapping[str, str]) -> dict[str, str]:
    """The action's answers out of a form, trimmed. Raises a fault that names what is missing or absurd."""
    answers = {}
    for field in action.fields:
        value = form.get(field.name, "").strip()
        if not value and field.required:
            raise Fault("MissingParameter", f"{field.label} is missing.")
        if len(value) > LONGEST_ANSWER:
            raise invalid_value(f"{field.label} is longer than {LONGEST_ANSWER} characters.")
        if value and field.kind == "number" and not _is_within(value, field):
            raise invalid_value(f"{field.label} must be a whole number from {field.least} to {field.most}.")
        if value and isinstance(field.choices, tuple) and field.choices and value not in field.choices:
            raise invalid_value(f"{field.label} must be one of {', '.join(field.choices)}.")
        answers[field.name] = value
    return answers


def _is_within(value: str, field: Field) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 10 and field.least <= int(value) <= field.most


def choices_of(field: Field, target: Target, node_types: Sequence[str], snapshots: Sequence[str] = ()) -> list[str]:
    """What the field's list offers; empty for a free text. snapshots: those that a cache can begin with."""
    match field.choices:
        case tuple():
            return list(field.choices)
        case str() if field.choices == NODE_TYPES:
            return list(node_types)
        case str() if field.choices == SNAPSHOTS:
            return ["", *snapshots]
        case str() if field.choices == SHARDS:
            return [str(shard["id"]) for shard in target.get("shards") or ()] or ["0001"]
    return list(dict.fromkeys(f"{n['id']}/{n['node_id']}" for n in target.get("nodes", ()) if not n.get("spare")))


def usual_answers(action: Action, target: Target) -> dict[str, str]:
    """What the form shows at first."""
    answers = {field.name: field.usual for field in action.fields}
    if action.name == "replicas":
        answers["replicas"] = str(replicas_of(target))
    if action.name == "shards":
        answers["shards"] = str(max(1, len(_staying(target))))
    if "node_type" in answers and target.get("node_type"):
        answers["node_type"] = str(target["node_type"])
    return answers


def replicas_of(target: Target) -> int:
    """Replicas of each shard, as of the first one."""
    shards = target.get("shards") or ()
    if shards:
        return max(0, len(shards[0]["members"]) - 1)
    return max(0, sum(1 for node in target.get("nodes", ()) if not node.get("spare")) - 1)


def _create(answers: Answers, _: Target) -> dict[str, str]:
    fields = {
        "Action": "CreateReplicationGroup",
        "ReplicationGroupId": answers["id"],
        "ReplicationGroupDescription": answers["description"],
        "Engine": answers["engine"],
        "CacheNodeType": answers["node_type"],
    }
    if answers["version"]:
        fields["EngineVersion"] = answers["version"]
    if answers["snapshot"]:
        fields["SnapshotName"] = answers["snapshot"]
    shards, replicas = int(answers["shards"]), int(answers["replicas"])
    if shards > 1 or answers["cluster_mode"] == "enabled":
        return fields | {
            "ClusterMode": "enabled",
            "NumNodeGroups": str(shards),
            "ReplicasPerNodeGroup": str(replicas),
            "AutomaticFailoverEnabled": "true",
        }
    return fields | {
        "NumCacheClusters": str(replicas + 1),
        "AutomaticFailoverEnabled": "true" if replicas else "false",
    }


def _replicas(answers: Answers, target: Target) -> dict[str, str]:
    wanted, present = int(answers["replicas"]), replicas_of(target)
    if wanted == present:
        have = _several(present, "replica")
        raise invalid_value(f"{target['id']} has {have} already in each shard; nothing would change.")
    return {
        "Action": "IncreaseReplicaCount" if wanted > present else "DecreaseReplicaCount",
        "ReplicationGroupId": str(target["id"]),
        "NewReplicaCount": str(wanted),
        "ApplyImmediately": "true",
    }


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _staying(target: Target) -> list[str]:
    """The ids of its shards, without those that leave."""
    return [str(shard["id"]) for shard in target.get("shards") or () if not shard.get("leaving")]


def _shards(answers: Answers, target: Target) -> dict[str, str]:
    """The last ones go where there are to be fewer."""
    wanted, present = int(answers["shards"]), _staying(target)
    if not present:
        raise invalid_value(f"{target['id']} has no shards: cluster mode is disabled.")
    if wanted == len(present):
        raise invalid_value(f"{target['id']} has {_several(wanted, 'shard')} already; nothing would change.")
    fields = {
        "Action": "ModifyReplicationGroupShardConfiguration",
        "ReplicationGroupId": str(target["id"]),
        "NodeGroupCount": str(wanted),
        "ApplyImmediately": "true",
    }
    for number, shard in enumerate(present[wanted:], 1):
        fields[f"NodeGroupsToRemove.NodeGroupToRemove.{number}"] = shard
    return fields


def _node_type(answers: Answers, target: Target) -> dict[str, str]:
    of_group = "shards" in target
    return {
        "Action": "ModifyReplicationGroup" if of_group else "ModifyCacheCluster",
        "ReplicationGroupId" if of_group else "CacheClusterId": str(target["id"]),
        "CacheNodeType": answers["node_type"],
        "ApplyImmediately": "true",
    }


def _fail_over(answers: Answers, target: Target) -> dict[str, str]:
    return {"Action": "TestFailover", "ReplicationGroupId": str(target["id"]), "NodeGroupId": answers["shard"]}


def _reboot(answers: Answers, target: Target) -> dict[str, str]:
    if answers["node"] not in choices_of(_NODE, target, ()):
        raise invalid_value(f"{target['id']} has no node {answers['node']}.")
    cluster, _, node = answers["node"].partition("/")
    return {
        "Action": "RebootCacheCluster",
        "CacheClusterId": cluster,
        "CacheNodeIdsToReboot.CacheNodeId.1": node,
    }


def _delete(answers: Answers, target: Target) -> dict[str, str]:
    if target.get("serverless"):
        last = {"FinalSnapshotName": answers["final"]} if answers["final"] else {}
        return {"Action": "DeleteServerlessCache", "ServerlessCacheName": str(target["serverless"]), **last}
    final = {"FinalSnapshotIdentifier": answers["final"]} if answers["final"] else {}
    if "shards" in target:
        return {"Action": "DeleteReplicationGroup", "ReplicationGroupId": str(target["id"]), **final}
    return {"Action": "DeleteCacheCluster", "CacheClusterId": str(target["id"]), **final}


def _back_up(answers: Answers, target: Target) -> dict[str, str]:
    if target.get("serverless"):
        return {
            "Action": "CreateServerlessCacheSnapshot",
            "ServerlessCacheSnapshotName": answers["snapshot"],
            "ServerlessCacheName": str(target["serverless"]),
        }
    of = "ReplicationGroupId" if "shards" in target else "CacheClusterId"
    return {"Action": "CreateSnapshot", "SnapshotName": answers["snapshot"], of: str(target["id"])}


_NODE = Field("node", "Node", "select", NODES)
_NODE_TYPE = Field("node_type", "Node type", "select", NODE_TYPES, "cache.t4g.micro")
# Bounds: API reference, CreateReplicationGroup (90 node groups unless raised, 5 replicas).
_REPLICAS = Field("replicas", "Replicas in each shard", "number", usual="1", most=5)
ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(
            "create",
            "Create replication group",
            ("new",),
            (
                Field("id", "Name", hint="1 to 40 letters, digits and hyphens; begins with a letter."),
                Field("description", "Description", usual="made in the dashboard"),
                Field("engine", "Engine", "select", ("valkey", "redis"), "valkey"),
                Field("version", "Engine version", required=False, hint="Empty for the newest that is installed."),
                Field(
                    "snapshot",
                    "Begin with the snapshot",
                    "select",
                    SNAPSHOTS,
                    required=False,
                    hint="Empty for an empty cache. Nodes must be large enough, and the engine must load it.",
                ),
                _NODE_TYPE,
                Field("cluster_mode", "Cluster mode", "select", ("disabled", "enabled"), "disabled"),
                Field("shards", "Shards", "number", usual="1", least=1, most=90),
                _REPLICAS,
            ),
            _create,
        ),
        Action("replicas", "Change number of replicas", ("group",), (_REPLICAS,), _replicas),
        Action(
            "shards",
            "Change number of shards",
            ("group",),
            (Field("shards", "Shards", "number", least=1, most=90),),
            _shards,
            about="Slots move with their keys while the group serves. Of fewer shards the last ones go.",
            clustered_only=True,
        ),
        Action("node-type", "Change node type", ("group", "cluster"), (_NODE_TYPE,), _node_type),
        Action(
            "fail-over",
            "Fail over",
            ("group",),
            (Field("shard", "Shard", "select", SHARDS),),
            _fail_over,
            about="A replica becomes the primary of the shard.",
        ),
        Action("reboot", "Reboot node", ("group", "cluster"), (_NODE,), _reboot),
        Action(
            "back-up",
            "Back up",
            ("group", "cluster", "serverless"),
            (Field("snapshot", "Name of the snapshot", hint="Letters, digits and hyphens; begins with a letter."),),
            _back_up,
            about="A replica in sync sends its data, where there is one; the snapshot is read back before it counts.",
            with_keys=True,
        ),
        Action(
            "delete",
            "Delete",
            ("group", "cluster", "serverless"),
            (
                Field(
                    "final",
                    "Final snapshot",
                    required=False,
                    hint="A name for it, or empty for none. If it fails, nothing is deleted. Memcached has none.",
                ),
            ),
            _delete,
            typed=True,
            about="All nodes go, and all data with them but what a snapshot has.",
        ),
    )
}
