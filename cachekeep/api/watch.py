"""The signed pages `/_cachekeep/watch`: GET lists a region's watched targets, POST adds or removes one.

Functions over the store and the watching; api.http puts them on the wire. A password is in no answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cachekeep.codec.target_url import TargetUrlError, parse_target_url
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.faults import Fault, invalid_value, missing_parameter
from cachekeep.domain.ids import resource_id
from cachekeep.domain.metric_ports import Watching
from cachekeep.domain.metrics import WatchedTarget
from cachekeep.domain.ports import Conflict, Store, Transaction, WorldError
from cachekeep.domain.replication_group import ReplicationGroup

MOST_TARGETS = 200
# As long as the name of a replication group may be.
LONGEST_NAME = 40
LONGEST_TEXT = 1024
# What the ids of a group's members have behind the group's.
_MEMBER = re.compile(r"-[0-9]{3}\Z|-[0-9]{4}-[0-9]{3}\Z")


def listed(watching: Watching, region: str) -> dict[str, Any]:
    """GET: `targets`, as watching.watched has them."""
    return {"targets": watching.watched(region)}


async def answered(
    watching: Watching, store: Store, node_types: Collection[str], region: str, body: Mapping[str, object], now: float
) -> dict[str, Any]:
    """POST. body: decoded JSON with `action` (add, remove) and what it needs. Raises Fault."""
    match _text(body, "action", needed=True):
        case "add":
            return await add(watching, store, node_types, region, body, now)
        case "remove":
            return remove(store, region, body)
        case other:
            raise invalid_value(f"The action must be add or remove, not {other[:40]!r}.")


async def add(
    watching: Watching, store: Store, node_types: Collection[str], region: str, body: Mapping[str, object], now: float
) -> dict[str, Any]:
    """Watch `url` under `name`, with `username`, `password`, `ca_file`, `node_type`; only when it answers, unless
    `force` is true. A target of that name and URL gets the new user, password and so on. Answers `target`, and
    `problem`: why it does not answer, or null."""
    wanted = _wanted(node_types, region, body, now)
    with store.transaction() as work:
        before = _check(work, wanted)
    wanted = _over(wanted, before)
    problem = None
    try:
        wanted = await watching.explored(wanted)
    except WorldError as error:
        problem = str(error)
    if problem is not None and body.get("force") is not True:
        raise invalid_value(f"{wanted.id} is not watched: {problem}. --force adds it all the same.")
    with store.transaction() as work:  # others may have come while it was asked
        stored = _check(work, wanted)
        try:
            work.insert(wanted) if stored is None else work.replace(stored, wanted)
        except Conflict as error:
            raise Fault("InvalidParameterValue", f"{error}; try again.") from error
    rows = watching.watched(region)
    return {"target": next(row for row in rows if row["id"] == wanted.id), "problem": problem}


def remove(store: Store, region: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Watch `name` no longer; what was measured stays until it is too old. Answers `removed`."""
    name = _name(body)
    with store.transaction() as work:
        target = work.get(WatchedTarget, region, name)
        if target is None:
            raise Fault("NotFound", f"There is no watched target {name} in {region}.", 404)
        work.delete(target)
    return {"removed": name}


def _wanted(node_types: Collection[str], region: str, body: Mapping[str, object], now: float) -> WatchedTarget:
    name = _name(body)
    try:
        url = parse_target_url(_text(body, "url", needed=True))
    except TargetUrlError as error:
        raise invalid_value(f"{error}.") from None
    username, password = _text(body, "username") or url.username, _text(body, "password")
    if (username or password) and not url.speaks_resp:
        raise invalid_value("A login is for Redis and Valkey; Memcached is watched without.")
    if username and not password:
        raise invalid_value(f"User {username[:60]} needs a password, too.")
    ca_file = _text(body, "ca_file")
    if ca_file and not url.tls:
        raise invalid_value(f"A CA file is for TLS, and {url.scheme}:// is none; write rediss:// or memcacheds://.")
    if ca_file and not ca_file.startswith("/"):
        raise invalid_value("The CA file must be an absolute path, of a file that the service can read.")
    node_type = _text(body, "node_type")
    if node_type and node_type not in node_types:
        raise invalid_value(f"{node_type[:60]!r} is no node type that is known here, such as cache.r7g.large.")
    return WatchedTarget(region, name, str(url), username, password, ca_file, node_type, now)


def _check(work: Transaction, wanted: WatchedTarget) -> WatchedTarget | None:
    """The target as it is stored already. Raises Fault where the name cannot be had."""
    stored = work.get(WatchedTarget, wanted.region, wanted.id)
    if stored is not None and stored.url != wanted.url:
        raise invalid_value(f"{wanted.id} is watched already, at {stored.url}; remove it first.")
    everywhere = work.all(WatchedTarget)
    if stored is None and len(everywhere) >= MOST_TARGETS:
        raise Fault("LimitExceeded", f"At most {MOST_TARGETS} targets are watched; remove some first.")
    ids = [group.id for group in work.all(ReplicationGroup, wanted.region)]
    ids += [cluster.id for cluster in work.all(CacheCluster, wanted.region)]
    others = [t.id for t in everywhere if t.region == wanted.region and t.id != wanted.id]
    for id_ in [*ids, *others]:
        if id_ == wanted.id or _member_of(id_, wanted.id) or _member_of(wanted.id, id_):
            raise invalid_value(f"{wanted.id} cannot be the name: there is {id_} already in {wanted.region}.")
    same = [t for t in everywhere if (t.region, t.url) == (wanted.region, wanted.url) and t.id != wanted.id]
    if same:
        raise invalid_value(f"{wanted.url} is watched already, as {same[0].id}.")
    return stored


def _over(wanted: WatchedTarget, before: WatchedTarget | None) -> WatchedTarget:
    """Its nodes keep their names."""
    if before is None:
        return wanted
    known = {"nodes": before.nodes, "engine": before.engine, "version": before.version, "added_at": before.added_at}
    return replace(wanted, **known)  # type: ignore[arg-type]  # taken from one of its own kind


def _member_of(id_: str, group_id: str) -> bool:
    return id_.startswith(f"{group_id}-") and bool(_MEMBER.match(id_[len(group_id) :]))


def _name(body: Mapping[str, object]) -> str:
    return resource_id("name", _text(body, "name", needed=True), LONGEST_NAME)


def _text(body: Mapping[str, object], field: str, *, needed: bool = False) -> str:
    """Never repeats the value: it may be a password."""
    value = body.get(field)
    if value is None or value == "":
        if needed:
            raise missing_parameter(field)
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or "\0" in value:
        raise invalid_value(f"{field} must be a text of at most {LONGEST_TEXT} characters.")
    return value
