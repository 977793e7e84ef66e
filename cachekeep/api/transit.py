"""Encryption in transit, as requests ask for it: what it needs, and from what to what it may change.

Source: botocore elasticache 2015-02-02, TransitEncryptionEnabled and TransitEncryptionMode; ElastiCache guide,
"Enabling in-transit encryption".
"""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.domain.engine import Engine, EngineVersion, with_tls
from cachekeep.domain.faults import invalid_combination
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.domain.transit import Transit

# Of AWS: TLS since Redis 3.2.6 and Memcached 1.6.12; the first with a build of its own here is later anyway.
_ONLY_GROUPS = (
    "TransitEncryptionMode preferred needs a replication group at addresses of its own, with cluster mode disabled or "
    "enabled: elsewhere TLS and plain connections cannot share a port here. Create the cache with required."
)
_LIVE_SINCE = EngineVersion((7, 0))
_PACKAGES = {Engine.VALKEY: "valkey-server", Engine.REDIS: "redis-server", Engine.MEMCACHED: "memcached"}


def asked_transit(call: Call, now: Transit = Transit.OFF) -> Transit:
    """What the request asks for; `now` when it asks for nothing. Raises InvalidParameterCombination."""
    enabled, mode = call.flag("TransitEncryptionEnabled"), call.text("TransitEncryptionMode")
    if enabled is False:
        if mode is not None:
            raise invalid_combination("TransitEncryptionMode needs TransitEncryptionEnabled to be true.")
        return Transit.OFF
    if mode is not None:
        if enabled is None and not now.encrypted:
            raise invalid_combination("TransitEncryptionMode needs TransitEncryptionEnabled to be true.")
        return Transit(mode)
    if enabled and not now.encrypted:
        return Transit.REQUIRED
    return now


def transit_at_creation(call: Call, engine: Engine, *, switchable: bool = False) -> Transit:
    """Of a new cache. switchable: of a kind that can take both on one port. Raises InvalidParameterCombination where no
    engine here can, naming what to install."""
    asked = asked_transit(call)
    if asked.encrypted:
        check_engine(call, engine)
    if asked is Transit.PREFERRED and not switchable:
        raise invalid_combination(_ONLY_GROUPS)
    return asked


def check_switchable(call: Call, mode: ClusterMode, version: EngineVersion | None = None) -> None:
    """Raises InvalidParameterCombination where TLS and plain connections cannot share a port. version: of the engine,
    where it is known."""
    if mode is ClusterMode.COMPATIBLE or not call.services.pool.movable:
        raise invalid_combination(_ONLY_GROUPS)
    # Before, the cluster bus is always 10,000 above the engine's own port, which a shared one is not.
    if mode is ClusterMode.ENABLED and version is not None and version < _LIVE_SINCE:
        raise invalid_combination(
            f"With cluster mode enabled, TransitEncryptionMode preferred needs engine version 7.0, and not {version}."
        )


def of_serverless(call: Call, engine: Engine) -> Transit | None:
    """How a new serverless cache is to be encrypted, for which AWS has no parameter: the setting serverless_tls.

    None where that leaves it to the engine that is found: both on one port if that has TLS (see `as_found`). Raises
    InvalidParameterCombination where TLS is required and no engine here has it.
    """
    match call.services.serverless_tls:
        case "disabled":
            return Transit.OFF
        case "required":
            check_engine(call, engine)
            return Transit.REQUIRED
    # Memcached cannot be given back its port while it runs, nor has it a switch.
    return None if engine.speaks_resp and call.services.pool.movable else Transit.OFF


def as_found(call: Call, engine: Engine, version: EngineVersion) -> Transit:
    """PREFERRED where that very version was built with TLS and can share a port, else OFF."""
    able = version >= _LIVE_SINCE and with_tls(call.services.catalogue.installs(), engine, version) is not None
    return Transit.PREFERRED if able else Transit.OFF


def asked_change(call: Call, group: ReplicationGroup) -> Transit | None:
    """The mode that the request changes the group to; None when it asks for no change.

    Raises InvalidParameterCombination: only step by step, as AWS has it, and by an engine that can.
    """
    # OFF is a falsy text.
    now = group.transit if group.pending.transit is None else group.pending.transit
    wanted = asked_transit(call, now)
    if wanted is group.transit:
        return wanted if group.pending.transit is not None and now is not wanted else None
    if {group.transit, wanted} == {Transit.OFF, Transit.REQUIRED}:
        way = (
            "Enabling in-transit encryption needs TransitEncryptionMode preferred first; once all clients use it, "
            "required."
            if wanted.encrypted
            else "In-transit encryption can be disabled only while TransitEncryptionMode is preferred."
        )
        raise invalid_combination(way)
    check_switchable(call, group.cluster_mode)
    if group.global_id:
        raise invalid_combination(
            f"{group.id} is a member of the global datastore {group.global_id}: leave that first."
        )
    if not wanted.encrypted and (group.user_group_ids or group.auth_tokens) and not call.services.auth_without_tls:
        raise invalid_combination(f"{group.id} is guarded by users or a token, which need in-transit encryption.")
    if group.version < _LIVE_SINCE:
        raise invalid_combination(
            f"In-transit encryption can be changed from engine version 7.0 on, and {group.id} has {group.version}."
        )
    if group.engine_change is not None or group.pending.version is not None:
        raise invalid_combination("A change of the engine version is under way or waits: one at a time.")
    if group.substitute is not None:
        raise invalid_combination(f"{group.id} is run by {group.substitute.label} in its place, without TLS.")
    check_engine(call, group.engine, group.version)
    _check_running(call, group)
    return wanted


def _check_running(call: Call, group: ReplicationGroup) -> None:
    """Raises InvalidParameterCombination: of two programs of one version the one without TLS may be running."""
    installs = call.services.catalogue.installs()
    if not group.transit.encrypted and any(
        i.engine is group.engine and i.version == group.version and not i.tls for i in installs
    ):
        raise invalid_combination(
            f"{group.engine.label} {group.version} is here with TLS and without, and {group.id} may run the latter: "
            "remove that one, reboot the nodes and ask again."
        )


def check_engine(call: Call, engine: Engine, version: EngineVersion | None = None) -> None:
    """Raises InvalidParameterCombination unless this machine has that engine with TLS."""
    if with_tls(call.services.catalogue.installs(), engine, version) is None:
        wanted = f"{engine.label} {version}" if version is not None else engine.label
        able = [str(i) for i in call.services.catalogue.installs() if i.tls]
        have = f"with TLS there are {', '.join(able)}" if able else "no engine here has TLS"
        raise invalid_combination(
            f"In-transit encryption needs a {wanted} that was built with TLS, and {have}: install the package "
            f"{_PACKAGES[engine]} of your distribution (the engines of the Python packages are built without TLS)."
        )
