"""Reads the package data: parameter families, node types, default parameter groups.

Called by the composition root and the API, which hand the values on; the planners never load anything. Every file
names its source and date. A family file holds only what differs from the family that it inherits: `remove` and
`rename` come first, then `change` (some fields of a parameter), then `add` (whole parameters). A value that no
source states is marked `"guess": true`, with `guessed` naming the field. `ours` says why a parameter is not as AWS
has it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.parameters import ChangeType, Family, NodeType, Parameter

_MIB = 1024 * 1024


class DataError(Exception):
    """A data file of the package is malformed: a bug of the package, never of the caller."""


class DefaultGroup(NamedTuple):
    """A parameter group that exists in every region; cluster_on: its `cluster-enabled` is `yes`."""

    name: str
    family: str
    cluster_on: bool


class _FamilyFile(NamedTuple):
    family: Family
    cluster_on_group: bool
    guesses: Mapping[str, str]
    ours: Mapping[str, str]
    records: Mapping[str, dict[str, Any]]


@cache
def families() -> Mapping[str, Family]:
    """All parameter group families by name, parameters in the order of the API (dashes do not count)."""
    return {name: entry.family for name, entry in _family_files().items()}


def guesses() -> Mapping[str, Mapping[str, str]]:
    """Family -> parameter -> which of its fields are guesses, for the documentation. Empty families are left out."""
    return {name: entry.guesses for name, entry in _family_files().items() if entry.guesses}


def ours() -> Mapping[str, Mapping[str, str]]:
    """Family -> parameter -> why it is not as AWS has it, for the documentation. Empty families are left out."""
    return {name: entry.ours for name, entry in _family_files().items() if entry.ours}


def default_groups() -> list[DefaultGroup]:
    """The `default.*` groups. From Redis OSS 3.2 on a family has a second one for cluster mode."""
    groups = []
    for name, entry in _family_files().items():
        groups.append(DefaultGroup(f"default.{name}", name, False))
        if entry.cluster_on_group:
            groups.append(DefaultGroup(f"default.{name}.cluster.on", name, True))
    return groups


@cache
def node_types() -> Mapping[str, NodeType]:
    """The node types whose memory is known, by name (`cache.t4g.micro`), in the order of the file."""
    specs = {row["node_type"]: row for row in _rows("node_types.csv")}
    found = {}
    for row in _rows("node_memory.csv"):
        name = row["node_type"]
        try:
            found[name] = _node_type(row, specs[name])
        except (KeyError, ValueError) as error:
            raise DataError(f"node_memory.csv: {name}: {error!r}") from error
    return found


def family_of(engine: Engine, version: EngineVersion) -> str | None:
    """The family that a cluster of this version takes its parameters from, or None for a version without one.

    Source: ElastiCache user guide, "Engine specific parameters"; Redis OSS 6 shares `redis6.x`, later majors have
    one family each, earlier versions one family for each minor version.
    """
    match engine:
        case Engine.VALKEY:
            name = f"valkey{version.major}"
        case Engine.MEMCACHED:
            name = f"memcached{version.short}"
        case Engine.REDIS if version.major == 6:
            name = "redis6.x"
        case Engine.REDIS if version.major > 6:
            name = f"redis{version.major}"
        case Engine.REDIS:
            name = f"redis{version.short}"
    return name if name in _family_files() else None


@cache
def _family_files() -> Mapping[str, _FamilyFile]:
    folder = files("cachekeep.data") / "families"
    raw = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        if path.name.endswith(".json"):
            raw[path.name.removesuffix(".json")] = _json(path.name, path.read_text("utf-8"))
    done: dict[str, _FamilyFile] = {}
    for name in raw:
        _resolve(name, raw, done, ())
    return {name: done[name] for name in raw}


def _json(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{name}: not an object")
    return value


def _resolve(
    name: str, raw: Mapping[str, dict[str, Any]], done: dict[str, _FamilyFile], below: tuple[str, ...]
) -> None:
    """Build `name` after the family that it inherits. below: the families that wait for it, to find a circle."""
    if name in done:
        return
    if name in below or name not in raw:
        raise DataError(f"{name}.json: inherits a circle or a missing family: {' <- '.join((*below, name))}")
    parent = raw[name].get("inherits")
    if parent is not None:
        _resolve(parent, raw, done, (*below, name))
    try:
        done[name] = build_family(name, raw[name], done[parent].records if parent else {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{name}.json: {error!r}") from error


def build_family(name: str, raw: Mapping[str, Any], inherited: Mapping[str, dict[str, Any]]) -> _FamilyFile:
    """Apply one family file to the inherited records. Raises KeyError, TypeError or ValueError if malformed."""
    if raw["family"] != name or not raw["source"] or not raw["as_of"]:
        raise ValueError("family, source and as_of must be given")
    records = {key: dict(value) for key, value in inherited.items()}
    for gone in raw.get("remove", ()):
        del records[gone]
    for old, new in raw.get("rename", {}).items():
        records[new] = records.pop(old)
    for key, fields in raw.get("change", {}).items():
        records[key] = {**records[key], **fields}
    for key, record in raw.get("add", {}).items():
        if key in records:
            raise ValueError(f"{key} is added twice")
        records[key] = dict(record)
    base = EngineVersion.parse(raw["base_version"])
    ordered = sorted(records, key=lambda key: key.replace("-", ""))
    parameters = {key: _parameter(key, records[key], base) for key in ordered}
    return _FamilyFile(
        Family(name, Engine(raw["engine"]), raw["description"], parameters),
        bool(raw.get("cluster_on_group", False)),
        {key: records[key]["guessed"] for key in ordered if records[key].get("guess")},
        {key: records[key]["ours"] for key in ordered if "ours" in records[key]},
        records,
    )


def _parameter(name: str, record: Mapping[str, Any], base: EngineVersion) -> Parameter:
    for key in ("default", "description", "type", "allowed"):
        if not isinstance(record[key], str):
            raise TypeError(f"{name}: {key} is not text")
    if not isinstance(record.get("ours", "-"), str) or not record.get("ours", "-"):
        raise TypeError(f"{name}: ours is not a reason")
    if record["type"] not in ("integer", "string", "boolean", "float") or not isinstance(record["modifiable"], bool):
        raise ValueError(f"{name}: unknown type or modifiable")
    # AWS shows the first version of the family for all that the family had from its start.
    since = max(base, EngineVersion.parse(record["since"])) if "since" in record else base
    return Parameter(
        name=name,
        default=record["default"],
        description=record["description"],
        data_type=record["type"],
        allowed=record["allowed"],
        modifiable=record["modifiable"],
        minimum_engine_version=str(since),
        change=ChangeType(record.get("change", "immediate")),
        by_node_type=bool(record.get("by_node_type", False)),
    )


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("cachekeep.data") / name).read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or any(None in row or None in row.values() or not row.get("node_type") for row in rows):
        raise DataError(f"{name}: empty, or a row has too many or too few columns")
    return rows


def _node_type(memory: Mapping[str, str], spec: Mapping[str, str]) -> NodeType:
    return NodeType(
        name=memory["node_type"],
        maxmemory_bytes=int(memory["maxmemory_bytes"]),
        memcached_bytes=int(memory["memcached_max_cache_memory_mb"] or 0) * _MIB,
        memcached_threads=int(memory["memcached_num_threads"] or spec["vcpu"]),
        maxclients=int(memory["maxclients"]),
        vcpu=int(spec["vcpu"]),
        memory_gib=float(spec["memory_gib"]),
    )
