"""What concerns the whole account: events, engine versions, node types; and STS GetCallerIdentity."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import pairwise

from cachekeep.api import present
from cachekeep.api.capacity import could_promise, why_too_small
from cachekeep.api.context import Call, engine_named
from cachekeep.api.ops.cache_clusters import find_cluster
from cachekeep.api.ops.members import find_group, members_of
from cachekeep.api.paging import page
from cachekeep.data.load import family_of
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import EngineInstall, EngineVersion
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import is_behind_serverless
from cachekeep.plan.placement import growth_bytes, node_bytes

# Without times, AWS answers with the last hour; events are kept for 14 days.
DEFAULT_MINUTES = 60
LONGEST_MINUTES = 14 * 24 * 60
# Source types that AWS has and of which there can be no event here yet.
_OTHER_SOURCES = ("cache-security-group", "user", "user-group")


def describe_events(call: Call) -> present.Shape:
    source_type = call.text("SourceType")
    source_id = call.text("SourceIdentifier")
    if source_type is not None and source_type not in (*[s.value for s in SourceType], *_OTHER_SOURCES):
        raise invalid_value(f"Invalid source type {source_type[:40]!r}.")
    if source_id is not None and source_type is None:
        raise invalid_combination("SourceIdentifier needs SourceType.")
    since, until = _period(call)
    events = call.services.store.events(
        call.region,
        since=since,
        until=until,
        source_type=source_type,
        source_id=source_id.lower() if source_id else None,
    )
    # What runs a serverless cache tells nobody: the cache does.
    events = [event for event in events if not is_behind_serverless(event.source_id)]
    # Names for paging: ascending and unique. Counted within a moment, since older events drop out between two pages.
    together: Counter[str] = Counter()
    named: list[tuple[str, Event]] = []
    for event in events:
        moment = f"{event.at:017.6f}"
        together[moment] += 1
        named.append((f"{moment}/{together[moment]:08d}", event))
    shown, marker = page(call, named, lambda pair: pair[0])
    return {
        "Marker": marker,
        "Events": [
            {
                "SourceIdentifier": event.source_id,
                "SourceType": event.source_type.value,
                "Message": event.message,
                "Date": present.moment(event.at),
            }
            for _, event in shown
        ],
    }


def _period(call: Call) -> tuple[float, float]:
    now = call.services.clock.now()
    start, end, minutes = call.params.get("StartTime"), call.params.get("EndTime"), call.number("Duration")
    if minutes is not None and not 0 < minutes <= LONGEST_MINUTES:
        raise invalid_value(f"Duration must be between 1 and {LONGEST_MINUTES} minutes.")
    if isinstance(start, datetime) and isinstance(end, datetime) and start > end:
        raise invalid_combination("StartTime must be before EndTime.")
    length = (minutes or DEFAULT_MINUTES) * 60
    until = end.timestamp() if isinstance(end, datetime) else now
    if isinstance(start, datetime):
        since = start.timestamp()
        if minutes is not None and not isinstance(end, datetime):
            until = min(since + length, now)
    else:
        since = until - length
    return since, until


def describe_cache_engine_versions(call: Call) -> present.Shape:
    """What this machine really has, newest first within an engine; the description says where it was found."""
    engine = call.text("Engine")
    wanted = engine_named(engine) if engine is not None else None
    family = call.text("CacheParameterGroupFamily")
    version = call.text("EngineVersion")
    found = [
        install
        for install in call.services.catalogue.installs()
        if (wanted is None or install.engine is wanted)
        and (version is None or _covers(version, install))
        and (family is None or family_of(install.engine, install.version) == family)
    ]
    found.sort(key=lambda i: (i.engine.value, i.version))
    if call.flag("DefaultOnly"):
        found = [a for a, b in pairwise([*found, None]) if a is not None and (b is None or b.engine is not a.engine)]
    shown, marker = page(call, found, lambda i: f"{i.engine.value} " + ".".join(f"{n:05d}" for n in i.version.numbers))
    return {
        "Marker": marker,
        "CacheEngineVersions": [
            {
                "Engine": install.engine.value,
                "EngineVersion": str(install.version),
                "CacheParameterGroupFamily": family_of(install.engine, install.version),
                "CacheEngineDescription": install.engine.label,
                "CacheEngineVersionDescription": f"{install.engine.label} version {install.version} "
                f"({install.found_in})",
            }
            for install in shown
        ],
    }


def _covers(text: str, install: EngineInstall) -> bool:
    try:
        return EngineVersion.parse(text.removesuffix(".x")).covers(install.version)
    except ValueError:
        raise invalid_value(f"Invalid engine version {text[:40]!r}.") from None


def list_allowed_node_type_modifications(call: Call) -> present.Shape:
    """Larger and smaller types, by memory, that this machine could promise and the data fits.

    The nodes of a Memcached cluster come back empty, so that any type will do that Memcached has a memory for.
    """
    cluster_id, group_id = call.text("CacheClusterId"), call.text("ReplicationGroupId")
    if (cluster_id is None) == (group_id is None):
        raise invalid_combination("Use either CacheClusterId or ReplicationGroupId.")
    resource: ReplicationGroup | CacheCluster
    if group_id is not None:
        resource = find_group(call, group_id)
        members = members_of(call.services.store, resource)
    else:
        resource = find_cluster(call, cluster_id or "")
        members = [resource]
    types, engine = call.services.catalog.node_types, resource.engine
    parameters = call.parameter_group(resource.parameter_group)
    size, now = node_bytes(engine, types[resource.node_type]), resource.pending.node_type
    nodes = sum(len(member.nodes) for member in members)
    ordered = [
        t
        for t in sorted(types.values(), key=lambda t: (node_bytes(engine, t), t.name))
        if could_promise(call, growth_bytes(engine, resource.node_type, now, t.name, types) * nodes)
        and (not engine.speaks_resp or why_too_small(call, members, t, parameters) is None)
    ]
    return {
        "ScaleUpModifications": [t.name for t in ordered if size < node_bytes(engine, t)],
        "ScaleDownModifications": [t.name for t in ordered if 0 < node_bytes(engine, t) < size],
    }


def get_caller_identity(call: Call) -> present.Shape:
    """STS: whom the access key stands for. Allowed to everyone with a key, as AWS has it."""
    account, who = call.services.account_id, call.identity
    return {"UserId": who.user_id(account), "Account": account, "Arn": who.arn(account)}
