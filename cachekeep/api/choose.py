"""From a request to an engine, its parameter group, node type and upkeep: defaults and faults that creates share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_lowercase

from cachekeep.api import transit
from cachekeep.api.context import Call
from cachekeep.data.load import family_of
from cachekeep.domain.alarms import Topic
from cachekeep.domain.cache_cluster import Upkeep
from cachekeep.domain.continuous import window_hours
from cachekeep.domain.engine import Engine, EngineVersion, with_tls
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.notifications import TopicArn
from cachekeep.domain.parameters import NodeType, ParameterGroup
from cachekeep.domain.replication_group import ClusterMode
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.plan import windows

DEFAULT_NODE_TYPE = "cache.t4g.micro"
MOST_TAGS = 50
# What XML has no way to say, and the sign that stands for it in answers.
_UNTOLD = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFC\U00010000-\U0010FFFF]")
# The Redis version that a stand-in Valkey is presented as when none is asked for.
STAND_IN_VERSION = EngineVersion((7, 1))
MOST_PORT_BEFORE_7 = 55535
_COMPATIBLE_SINCE = EngineVersion((7, 0))


@dataclass(frozen=True)
class EngineChoice:
    """version: as asked for or as found. substitute: what really runs, when something stands in."""

    engine: Engine
    version: EngineVersion
    substitute: Engine | None = None
    substitute_version: EngineVersion | None = None


def choose_engine(call: Call, engine: Engine, wanted_text: str | None, *, tls: bool = False) -> EngineChoice:
    """The newest installed version that the request covers.

    Raises InvalidParameterCombination that lists what this machine has; never answers with another engine unless
    the setting for it is on. tls: only one that was built with it.
    """
    wanted = _wanted_version(engine, wanted_text)
    if tls:
        return _choose_with_tls(call, engine, wanted, wanted_text)
    found = call.services.catalogue.best(engine, wanted)
    if found is not None and found.engine is engine:
        return EngineChoice(engine, found.version)
    if engine is Engine.REDIS and call.services.redis_stand_in:
        valkey = call.services.catalogue.best(Engine.VALKEY, None)
        if valkey is not None:
            return EngineChoice(engine, wanted or STAND_IN_VERSION, Engine.VALKEY, valkey.version)
    have = [str(i.version) for i in call.services.catalogue.installs() if i.engine is engine]
    on_offer = f"available on this machine: {', '.join(have)}" if have else f"no {engine.label} is installed here"
    raise invalid_combination(f"Cannot find version {wanted_text or 'any'} for {engine.value}; {on_offer}.")


def _choose_with_tls(call: Call, engine: Engine, wanted: EngineVersion | None, text: str | None) -> EngineChoice:
    found = with_tls(call.services.catalogue.installs(), engine, wanted)
    if found is None:
        if text is not None:
            choose_engine(call, engine, text)  # a version that is not here at all is told as such
        transit.check_engine(call, engine, wanted)
        raise invalid_combination(f"Cannot find {engine.label} {text} with TLS on this machine.")
    return EngineChoice(engine, found.version)


def asks_for_another_version(call: Call, engine: Engine, now: EngineVersion) -> bool:
    """Whether EngineVersion names another version than `now`, which may be more exact: 9.1 is 9.1.2's too.

    Raises InvalidParameterCombination for one that this machine does not have.
    """
    text = call.text("EngineVersion")
    wanted = _wanted_version(engine, text)
    return wanted is not None and not wanted.covers(now) and choose_engine(call, engine, text).version != now


def _wanted_version(engine: Engine, text: str | None) -> EngineVersion | None:
    if text is None:
        return None
    try:
        return EngineVersion.parse(text.removesuffix(".x"))
    except ValueError:
        raise invalid_value(f"Invalid engine version {text[:40]!r} for {engine.value}.") from None


def choose_parameter_group(
    call: Call, choice: EngineChoice, mode: ClusterMode = ClusterMode.DISABLED, now: str = ""
) -> ParameterGroup:
    """The group asked for, of the engine's family, or the family's default group; it must suit the cluster mode.

    now: the group that is in use, which may stay whatever the mode.
    """
    family = family_of(choice.engine, choice.version)
    name = call.text("CacheParameterGroupName")
    if family is None:
        raise invalid_combination(f"No parameter group family is known for {choice.engine.value} {choice.version}.")
    if name is None:
        return default_group(call, family, mode)
    group = call.parameter_group(name)
    if group.family != family:
        raise invalid_combination(
            f"Expected a parameter group of family {family} but found one of family {group.family}"
        )
    if group.name != now:
        _check_mode(call, group, mode)
    return group


def default_group(call: Call, family: str, mode: ClusterMode) -> ParameterGroup:
    """`default.valkey9`, or with cluster mode `default.valkey9.cluster.on`."""
    if mode is ClusterMode.DISABLED:
        return call.parameter_group(f"default.{family}")
    name = f"default.{family}.cluster.on"
    if name not in call.services.catalog.default_groups:
        raise invalid_combination(f"The parameter group family {family} has no cluster mode.")
    return call.parameter_group(name)


def _check_mode(call: Call, group: ParameterGroup, mode: ClusterMode) -> None:
    """In compatible mode both kinds of groups will do: what counts is the mode."""
    on = is_cluster_mode(call, group)
    if on and mode is ClusterMode.DISABLED:
        raise invalid_combination(
            f"The parameter group {group.name} has cluster-enabled yes, which needs a replication group with cluster "
            "mode enabled."
        )
    if not on and mode is ClusterMode.ENABLED:
        raise invalid_combination(
            f"The parameter group {group.name} has cluster-enabled no, and cluster mode needs one with yes, such as "
            f"default.{group.family}.cluster.on."
        )


def is_cluster_mode(call: Call, group: ParameterGroup) -> bool:
    """The group switches cluster mode on."""
    return group.values.get("cluster-enabled", "no") == "yes"


def check_switch(call: Call, now: str, group: ParameterGroup, *, clustered: bool = False) -> None:
    """Raises InvalidParameterCombination when a cache that holds data would lose databases by another group."""
    have, get = (databases(call, one, clustered=clustered) for one in (call.parameter_group(now), group))
    if get < have:
        raise invalid_combination(
            f"The parameter group {group.name} gives {get} databases and the cache has {have}: the keys of the others "
            "would be lost. Use a parameter group with at least as many."
        )


def databases(call: Call, group: ParameterGroup, *, clustered: bool = False) -> int:
    """How many databases the group gives; 0 where the engine has none."""
    family = call.services.catalog.families[group.family]
    parameter = family.parameters.get("cluster-databases" if clustered else "databases")
    if parameter is None:
        return 1 if clustered else 0
    given = int(group.values.get(parameter.name, parameter.default))
    return max(given, 1) if clustered else given


def check_cluster_mode(call: Call, choice: EngineChoice, mode: ClusterMode, port: int) -> None:
    """Raises InvalidParameterCombination or InvalidParameterValue for an engine that cannot run in that mode."""
    if mode is ClusterMode.DISABLED:
        return
    engine, version = choice.substitute or choice.engine, choice.substitute_version or choice.version
    install = call.services.catalogue.best(engine, version)
    if install is not None and not install.cluster:
        raise invalid_combination(f"{install} was built without cluster mode; choose another engine version.")
    if mode is ClusterMode.COMPATIBLE and version < _COMPATIBLE_SINCE:
        raise invalid_combination(
            f"Cluster mode compatible needs engine version 7.0 or later, and this is {engine.label} {version}."
        )
    if port > MOST_PORT_BEFORE_7 and version < _COMPATIBLE_SINCE:
        raise invalid_value(
            f"Invalid port {port}: in cluster mode engines before 7.0 use the port 10000 above as well, so it can be "
            f"{MOST_PORT_BEFORE_7} at most."
        )


def choose_node_type(call: Call, name: str | None) -> NodeType:
    """Raises InvalidParameterValue for a type that AWS does not have."""
    name = name or DEFAULT_NODE_TYPE
    node_type = call.services.catalog.node_types.get(name)
    if node_type is None:
        raise invalid_value(f"Invalid Cache Node Type: {name[:60]}.")
    return node_type


def choose_subnet_group(call: Call) -> str:
    """Raises CacheSubnetGroupNotFoundFault."""
    name = call.text("CacheSubnetGroupName")
    if name is None or name.lower() == "default":
        return "default"
    if call.services.store.get(SubnetGroup, call.region, name.lower()) is None:
        raise Fault("CacheSubnetGroupNotFoundFault", f"Cache Subnet Group {name[:60]} does not exist.")
    return name.lower()


def choose_port(call: Call, engine: Engine) -> int:
    port = call.number("Port")
    if port is None:
        return engine.default_port
    if not 0 < port < 65536:
        raise invalid_value(f"Invalid port {port}: it must be between 1 and 65535.")
    return port


def choose_at_rest(call: Call, engine: Engine) -> bool:
    """Is the group to be shown as encrypted at rest? What is not asked for is as at AWS (on for Valkey, off for Redis)
    as far as it is true: everything that is kept lies on one disk, and that is encrypted or not.

    Raises InvalidParameterCombination when it is asked for and not so.
    """
    asked, so = call.flag("AtRestEncryptionEnabled"), call.services.encrypted_at_rest
    if asked and not so:
        raise invalid_combination(
            "AtRestEncryptionEnabled needs a state directory on an encrypted volume (dm-crypt, LUKS or fscrypt), and "
            "this one is on none that can be seen. Move it to one, or set CACHEKEEP_ENCRYPTED_STATE=true if its volume "
            "is encrypted by other means."
        )
    return bool(so) and (engine is Engine.VALKEY if asked is None else asked)


def choose_upkeep(call: Call, name: str) -> Upkeep:
    """Windows (given or by default) and what is shown as given."""
    refuse_cache_security_groups(call)
    maintenance = call.text("PreferredMaintenanceWindow")
    snapshot = call.text("SnapshotWindow")
    automatic = call.flag("AutoMinorVersionUpgrade")
    return Upkeep(
        maintenance_window=windows.maintenance_window(maintenance)
        if maintenance
        else windows.default_maintenance_window(call.region, name),
        snapshot_window=windows.snapshot_window(snapshot)
        if snapshot
        else windows.default_snapshot_window(call.region, name),
        auto_minor_version_upgrade=True if automatic is None else automatic,
        notification_topic=notification_topic(call, call.text("NotificationTopicArn")),
        security_group_ids=call.texts("SecurityGroupIds"),
        snapshot_retention=snapshot_retention(call) or 0,
    )


MOST_RETENTION_DAYS = 35


def snapshot_retention(call: Call) -> int | None:
    """For how many days automatic snapshots are kept; 0 for none, None where the request does not say."""
    days = call.number("SnapshotRetentionLimit")
    if days is not None and not 0 <= days <= MOST_RETENTION_DAYS:
        raise invalid_value(f"Invalid SnapshotRetentionLimit {days}: it must be between 0 and {MOST_RETENTION_DAYS}.")
    return days


def refuse_snapshots_of(engine: Engine, node_type: str, days: int | None) -> None:
    """Raises InvalidParameterCombination for daily snapshots of what has none."""
    if days and (not engine.speaks_resp or node_type == "cache.t1.micro"):
        what = f"the engine {engine.value}" if not engine.speaks_resp else f"the node type {node_type}"
        raise invalid_combination(f"SnapshotRetentionLimit is not supported for {what}.")


def notification_topic(call: Call, text: str | None) -> str | None:
    """The topic to tell of events; None for none.

    Raises InvalidParameterValue unless it is of the caller's account and region, as AWS demands, and is there: events
    that nobody is told of would be noticed when they are missed.
    """
    if not text:
        return None
    arn, account = TopicArn.parse(text), call.services.account_id
    if arn is None:
        raise invalid_value(f"Invalid topic ARN {text[:100]}: it must be arn:aws:sns:{call.region}:{account}:NAME.")
    if (arn.region, arn.account) != (call.region, account):
        raise invalid_value(f"The topic {text} must be of the same account and region: {account}, {call.region}.")
    if call.services.store.get(Topic, arn.region, arn.name) is None:
        raise invalid_value(f"The topic {text} does not exist: `cachekeep topics add {arn.name}` makes it.")
    return text


def refuse_cache_security_groups(call: Call) -> None:
    """Raises InvalidParameterValue, as AWS does for every account that came after EC2-Classic."""
    if call.texts("CacheSecurityGroupNames"):
        raise invalid_value("Use of cache security groups is not permitted in this API version for your account.")


def check_zones(call: Call, *zones: str) -> tuple[str, ...]:
    """The zones as given. Raises InvalidParameterValue for one that is not of the caller's region."""
    for zone in zones:
        if len(zone) != len(call.region) + 1 or not zone.startswith(call.region) or zone[-1] not in ascii_lowercase:
            raise invalid_value(f"{zone[:40]} is not a valid availability zone.")
    return zones


def choose_tags(call: Call) -> dict[str, str]:
    return tags_of(call.params.get("Tags") or [])


def tags_of(given: list[dict[str, str]]) -> dict[str, str]:
    """Raises InvalidParameterValue for a tag that AWS would refuse."""
    tags: dict[str, str] = {}
    for tag in given:
        key, value = tag.get("Key"), tag.get("Value") or ""
        if not key or len(key) > 128 or len(value) > 256:
            raise invalid_value("A tag needs a key of 1 to 128 characters and a value of at most 256.")
        if _UNTOLD.search(key + value):
            raise invalid_value(f"The tag {key[:60]!r} has characters that no answer could hold.")
        if key.lower().startswith("aws:"):
            raise invalid_value(f"Tag keys that begin with 'aws:' are reserved: {key[:60]!r}.")
        if key in tags:
            raise invalid_value(f"Duplicate tag key: {key[:60]!r}.")
        tags[key] = value
    check_tag_count(tags)
    try:
        window_hours(tags)
    except ValueError as error:
        raise invalid_value(str(error)) from None
    return tags


def check_tag_count(tags: dict[str, str]) -> None:
    if len(tags) > MOST_TAGS:
        raise Fault("TagQuotaPerResourceExceeded", f"A resource can have at most {MOST_TAGS} tags.")
