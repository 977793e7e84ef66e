"""What an engine's answers say, as NodeFacts. Pure; used by engine.admin."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cachekeep.codec.info import count_keys, databases_used, hashes_with_expiring_fields, replicas_waiting
from cachekeep.domain.nodes import Address, ClusterFacts, NodeFacts, Role

# As module/iam_auth.c names itself; a field of its own where it is loaded.
IAM_MODULE = "cachekeep_iam"
# The user that a latched engine logs in to its primary as (steps.Latch): nobody has one of that name.
LATCHED = "cachekeep-latched"
_NOT_CONFIG = ("bind", "masteruser")


def facts_of_engine(
    info: Mapping[str, str], config: Mapping[str, str], cluster: ClusterFacts | None = None, acl: str | None = None
) -> NodeFacts:
    """Read INFO and CONFIG GET of Valkey or Redis. config holds `bind` and `masteruser` besides what was asked for.
    cluster: what it knows of its cluster. acl: see NodeFacts.

    A replica's offset is what it has applied (`slave_repl_offset`), not what it has received
    (`slave_read_repl_offset`): what was not applied when a replica is promoted is gone.
    """
    replica = info.get("role") == "slave"
    syncing = info.get("master_sync_in_progress") == "1"
    primary_host = info.get("master_host", "")
    primary_port = _number(info, "master_port")
    return NodeFacts(
        version=info.get("valkey_version") or info.get("redis_version", ""),
        pid=_number(info, "process_id"),
        run_id=info.get("run_id", ""),
        role=Role.REPLICA if replica else Role.PRIMARY,
        offset=_number(info, "slave_repl_offset" if replica else "master_repl_offset"),
        link_up=replica and info.get("master_link_status") == "up" and not syncing,
        syncing=syncing,
        loading=info.get("loading") == "1",
        primary=Address(primary_host, primary_port) if replica and primary_host and primary_port else None,
        binds=tuple(config.get("bind", "").split()),
        used_memory_bytes=_number(info, "used_memory"),
        maxmemory_bytes=_number(info, "maxmemory"),
        keys=count_keys(info),
        clients=_number(info, "connected_clients"),
        config={name: value for name, value in config.items() if name not in _NOT_CONFIG},
        databases_used=databases_used(info),
        expiring_fields=hashes_with_expiring_fields(info),
        unexpected_errors=_number(info, "unexpected_error_replies"),
        replicas_waiting=replicas_waiting(info),
        cluster=cluster,
        keys_loaded=_number(info, "rdb_last_load_keys_loaded") + _number(info, "rdb_last_load_keys_expired")
        if "rdb_last_load_keys_loaded" in info
        else None,
        takes_tokens=IAM_MODULE in info,
        acl=acl,
        latched=config.get("masteruser") == LATCHED,
    )


def facts_of_memcached(
    stats: Mapping[str, str], running: Mapping[str, str], settings: Collection[str] = ()
) -> NodeFacts:
    """Read `stats` and `stats settings` of Memcached. It never replicates nor loads."""
    return NodeFacts(
        version=stats.get("version", ""),
        pid=_number(stats, "pid"),
        run_id=stats.get("pid", ""),
        binds=tuple(running["inter"].split(",")) if running.get("inter", "NULL") != "NULL" else (),
        used_memory_bytes=_number(stats, "bytes"),
        maxmemory_bytes=_number(stats, "limit_maxbytes"),
        keys=_number(stats, "curr_items"),
        clients=_number(stats, "curr_connections"),
        config={name: running[name] for name in settings if name in running},
    )


def _number(fields: Mapping[str, str], name: str) -> int:
    """Return the field as a number; 0 when this engine has no such field."""
    text = fields.get(name, "")
    return int(text) if text.lstrip("-").isdecimal() else 0
