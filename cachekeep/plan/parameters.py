"""Which parameter values are allowed, what they mean to an engine, and what a running engine lacks of them.

Called by the API (checks) and by the planner of a group (configuration, drift). Pure: families and node types
come in as values. Valkey and Redis take directives of the configuration file, Memcached command-line options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.parameters import ChangeType, Family, NodeType, Parameter
from cachekeep.plan.memcached_options import OPTIONS, cache_mb, memcached_options

# Parameters that are accepted and shown but change nothing in an engine here, each with its reason.
_RECORDED_WHY = {
    "close-on-replica-write": "a feature of ElastiCache's own engine build",
    "close-on-slave-write": "a feature of ElastiCache's own engine build",
    "replica-allow-chaining": "replicas always follow the primary",
    "slave-allow-chaining": "replicas always follow the primary",
    "rename-commands": "a renamed command breaks replication until every node has it, and Cachekeep uses them itself",
    "cluster-preferred-endpoint-type": "nodes are always named by address",
    "search-fanout-target-mode": "needs the search module",
    "search-default-timeout-ms": "needs the search module",
    "search-enable-partial-results": "needs the search module",
    "list-max-ziplist-entries": "gone from the engine since 3.2",
    "list-max-ziplist-value": "gone from the engine since 3.2",
    "config_max": "belongs to the discovery of ElastiCache's own engine build",
    "config_size_max": "belongs to the discovery of ElastiCache's own engine build",
    "large_memory_pages": "fixed at 0",
    "lock_down_paged_memory": "fixed at 0",
    "maximize_core_file_limit": "fixed at 0",
    "expirezero_does_not_evict": "gone from the engine since 1.5",
    "inline_ascii_resp": "without effect since 1.5.16",
    "modern": "always on since 1.5",
    "worker_logbuf_size": "memcached 1.6.18 reads it as the list of slab sizes too, which leaves two slab classes",
}
RECORDED_ONLY = frozenset(_RECORDED_WHY)

# Changeable only while no cluster uses the group; afterwards a cluster must keep the value it was made with.
# Source: ElastiCache user guide, "Engine specific parameters" (databases, activerehashing), DescribeCacheParameters.
FIXED_IN_USE = frozenset({"databases", "activerehashing", "cluster-enabled", "cluster-databases"})

# Directive -> first Redis and first Valkey version that knows it; None: none does. Absent: all from 6.0 on.
_V = EngineVersion
_KNOWN_SINCE: Mapping[str, tuple[EngineVersion | None, EngineVersion | None]] = {
    **dict.fromkeys(
        ("cluster-allow-pubsubshard-when-down", "cluster-preferred-endpoint-type", "latency-tracking"),
        (_V((7, 0)), _V((7, 2))),
    ),
    "acl-pubsub-default": (_V((6, 2)), _V((7, 2))),
    "extended-redis-compatibility": (None, _V((8, 0))),
    "commandlog-request-larger-than": (None, _V((8, 1))),
    "commandlog-large-request-max-len": (None, _V((8, 1))),
    "commandlog-reply-larger-than": (None, _V((8, 1))),
    "commandlog-large-reply-max-len": (None, _V((8, 1))),
    "cluster-databases": (None, _V((9, 0))),
    "cluster-slot-migration-log-max-len": (None, _V((9, 0))),
    "cluster-allow-replica-migration": (_V((6, 2)), _V((7, 2))),
}
# What every node in cluster mode is started with. Gossip is the net under the supervisor, which acts first and knows
# more: replicas do not change shards by themselves, and one may take over however long its link was down.
_CLUSTERED: Mapping[str, str] = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "5000",
    "cluster-allow-replica-migration": "no",
    "cluster-migration-barrier": "1000",
    "cluster-replica-validity-factor": "0",
    # It is read at every look.
    "cluster-slot-migration-log-max-len": "64",
}
_LISTPACK = _V((7, 0))  # Redis 7 renamed ziplist to listpack and always replicates the effects of scripts
_BUFFER_LIMIT = "client-output-buffer-limit"
_EVENTS = "notify-keyspace-events"
_SAVE = "save"
# At most 16 pairs: a line of the file may be long, and more say nothing.
_SAVE_POINTS = re.compile(r"([1-9][0-9]{0,8} [1-9][0-9]{0,8}( [1-9][0-9]{0,8} [1-9][0-9]{0,8}){0,15})?\Z")
_MIB = 1024 * 1024
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_NUMBER = {"integer": re.compile(r"-?[0-9]{1,19}\Z"), "float": re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?\Z")}
_RANGE = re.compile(r"(-?[0-9.]+)?-(-?[0-9.]+)?\Z")
_SIZE = re.compile(r"(-?[0-9]+)(b|k|kb|m|mb|g|gb)?\Z")
_UNIT = {None: 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


@dataclass(frozen=True)
class Drift:
    """What a running engine lacks: live can be set at once (CONFIG SET), restart only by starting it anew."""

    live: Mapping[str, str] = field(default_factory=dict)
    restart: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)


def why_not_allowed(parameter: Parameter, value: str) -> str | None:
    """The sentence with which AWS refuses this value in a parameter group, or None when it is allowed."""
    if not parameter.modifiable:
        return f"The parameter {parameter.name} cannot be modified."
    number = _NUMBER.get(parameter.data_type)
    if number is not None and not number.match(value):
        wrong = f"The parameter {parameter.name} cannot be modified to the value {value[:60]}"
        return f"{wrong}; it takes {parameter.data_type}s."
    if parameter.name == _EVENTS:
        fits, allowed = set(value) <= set(_event_letters(parameter)), f"the letters {_event_letters(parameter)}"
    elif parameter.name == _SAVE:
        fits, allowed = bool(_SAVE_POINTS.match(value)), "pairs of seconds and changes such as 900 1 300 10, or nothing"
    elif parameter.name == "rename-commands":
        fits, allowed = _renames(parameter.allowed, value), "pairs of a command and its new name"
    else:
        fits, allowed = _in_allowed(parameter, value), parameter.allowed
    if fits:
        return None
    return f"The parameter {parameter.name} cannot be modified to the value {value[:60]}; allowed values are {allowed}."


def why_not_together(values: Mapping[str, str]) -> str | None:
    """The sentence that refuses a set of values of one group, or None.

    Source: ElastiCache user guide, "Managing reserved memory": the two forms exclude each other.
    """
    both = ("reserved-memory", "reserved-memory-percent")
    if all(values.get(name, "0") != "0" for name in both):
        return f"The parameters {both[0]} and {both[1]} cannot be used together; set one of them to 0."
    return None


def why_recorded_only(name: str) -> str | None:
    """Why a parameter changes nothing in an engine here, or None when it does."""
    return _RECORDED_WHY.get(name)


def node_type_value(name: str, node_type: NodeType) -> str:
    """The value of a parameter that depends on the node type. Raises KeyError for any other.

    A tenth of maxmemory for replica buffers: seen in the sample outputs of DescribeEngineDefaultParameters.
    """
    if name.startswith((f"{_BUFFER_LIMIT}-replica-", f"{_BUFFER_LIMIT}-slave-")):
        return str(node_type.maxmemory_bytes // 10)
    by_type = {
        "maxmemory": node_type.maxmemory_bytes,
        "max_cache_memory": cache_mb(node_type),
        "num_threads": node_type.memcached_threads,
    }
    return str(by_type[name])


def effective_values(family: Family, values: Mapping[str, str], node_type: NodeType) -> Mapping[str, str]:
    """All parameters of the family: the group's values over the defaults, by node type where they depend on it."""
    effective = {}
    for name, parameter in family.parameters.items():
        default = node_type_value(name, node_type) if parameter.by_node_type else parameter.default
        effective[name] = values.get(name, default)
    return effective


def engine_config(
    family: Family,
    values: Mapping[str, str],
    node_type: NodeType,
    engine: Engine,
    version: EngineVersion,
    *,
    can_defrag: bool = False,
    open_files: int | None = None,
    clustered: bool = False,
) -> Mapping[str, str]:
    """The directives (Valkey, Redis) or options (Memcached) of a node whose group holds `values`.

    Directives read as CONFIG GET gives them back, except `client-output-buffer-limit`: one line for each class, as
    engines before 7 want it in the file. An option without an argument (`-C`) has an empty value. can_defrag: the
    engine was built with its own jemalloc; any other refuses to start with `activedefrag yes`, so that directive is
    left out. open_files: how many files the process may open, which bounds its clients; Memcached does not start
    when it may not open enough. clustered: the node runs in cluster mode. That is told by its group and not by
    `cluster-enabled` of its parameter group; the number of databases is then `cluster-databases`, if the engine has it.
    """
    given = effective_values(family, values, node_type)
    clients = node_type.maxclients if open_files is None else max(3, min(node_type.maxclients, open_files - 64))
    if engine is Engine.MEMCACHED:
        return memcached_options(given, clients)
    config = {}
    for name, value in given.items():
        directive = _directive(name, engine, version)
        if directive is not None and (name != "activedefrag" or can_defrag):
            config[directive] = _directive_value(name, value)
    config[_BUFFER_LIMIT] = _buffer_limits(given)
    config["maxmemory"] = str(_data_bytes(given, node_type))
    config["maxclients"] = str(clients)
    if clustered:
        config.pop("databases", None)
        config |= {name: value for name, value in _CLUSTERED.items() if _known(name, engine, version)}
    return config


def managed_names(config: Mapping[str, str]) -> list[str]:
    """The names to ask CONFIG GET for, to compare a running engine with `config`. All can be read back."""
    return sorted(config)


def drift(wanted: Mapping[str, str], running: Mapping[str, str], family: Family) -> Drift:
    """What to set now and what only a restart brings, compared by meaning (`1gb` is 1073741824).

    running: the answer of CONFIG GET; for Memcached the options that the process was started with, which can only
    change by a restart. A name that the engine did not answer is one it does not know and is passed over.
    """
    if family.engine is Engine.MEMCACHED:
        started_with = {name: value for name, value in running.items() if name in OPTIONS}
        return Drift(restart={} if started_with == dict(wanted) else dict(wanted))
    late = {name for name, p in family.parameters.items() if p.change is ChangeType.REQUIRES_REBOOT}
    live, restart = {}, {}
    for name in sorted(wanted.keys() & running.keys()):
        # Cluster mode is never a difference to be mended: the planner replaces nodes to change it.
        if name == "cluster-enabled" or _same(name, wanted[name], running[name]):
            continue
        if name in late:
            restart[name] = wanted[name]
        else:
            live[name] = " ".join(wanted[name].split("\n"))
    return Drift(live, restart)


def _in_allowed(parameter: Parameter, value: str) -> bool:
    """Does `0,20-` or `yes,no` hold the value? Open ranges end where the engine's own integers do."""
    if not parameter.allowed:
        return True
    if parameter.data_type not in _NUMBER:
        return value in parameter.allowed.split(",")
    number = Decimal(value)
    # Counters and seconds are 32-bit integers in the engines; sizes and thresholds are 64-bit.
    wide = parameter.name.endswith(("-bytes", "-limit", "-size", "-memory", "-than"))
    top = Decimal(_INT64 if wide else _INT32)
    for part in parameter.allowed.split(","):
        span = None if _NUMBER["float"].match(part) else _RANGE.match(part)
        low, high = (part, part) if span is None else span.groups()
        if (-top if low is None else Decimal(low)) <= number <= (top if high is None else Decimal(high)):
            return True
    return False


def _event_letters(parameter: Parameter) -> str:
    """K, E and A, the documented kinds, and those that later engines added: t, d, m (6.0) and n (7.0)."""
    since = EngineVersion.parse(parameter.minimum_engine_version).major
    return "KEg$lshzxeA" + ("tdm" if since >= 6 else "") + ("n" if since >= 7 else "")


def _renames(commands: str, value: str) -> bool:
    words = value.split()
    olds, news = [word.upper() for word in words[::2]], [word.upper() for word in words[1::2]]
    distinct = len({*olds}) == len(olds) == len(news) == len({*news})
    return distinct and {*olds} <= {*commands.split(",")} and not {*news} & {*commands.split(",")}


def _directive(name: str, engine: Engine, version: EngineVersion) -> str | None:
    """The directive of this engine version that carries a parameter as it stands, or None."""
    if name in RECORDED_ONLY or name == "cluster-enabled" or name.startswith(("reserved-memory", _BUFFER_LIMIT)):
        return None
    older_redis = engine is Engine.REDIS and _short(version) < _LISTPACK
    if name == "lua-replicate-commands":
        return name if older_redis else None
    name = name.replace("slave", "replica")  # since 5.0; the old names are only aliases
    if older_redis:
        name = name.replace("listpack", "ziplist")
    return name if _known(name, engine, version) else None


def _known(directive: str, engine: Engine, version: EngineVersion) -> bool:
    if directive not in _KNOWN_SINCE:
        return True
    since = _KNOWN_SINCE[directive][0 if engine is Engine.REDIS else 1]
    return since is not None and since <= _short(version)


def _short(version: EngineVersion) -> EngineVersion:
    return EngineVersion((version.major, version.minor))


def _directive_value(name: str, value: str) -> str:
    if name.endswith(("slower-than", "larger-than")) and value.startswith("-"):
        return "-1"  # AWS takes any negative number for "never"; the engines refuse all but -1
    if name == "cluster-databases" and value == "0":
        return "1"  # AWS shows 0 for the engine's own default
    return value


def _buffer_limits(given: Mapping[str, str]) -> str:
    """`normal 0 0 0`, `slave ...`, `pubsub ...`: the order and words of CONFIG GET, a line each."""
    names = ("hard-limit", "soft-limit", "soft-seconds")
    replica = "replica" if f"{_BUFFER_LIMIT}-replica-hard-limit" in given else "slave"
    lines = []
    for word, kind in (("normal", "normal"), ("slave", replica), ("pubsub", "pubsub")):
        lines.append(" ".join([word, *(given[f"{_BUFFER_LIMIT}-{kind}-{name}"] for name in names)]))
    return "\n".join(lines)


def _data_bytes(given: Mapping[str, str], node_type: NodeType) -> int:
    """maxmemory of the node: what is not reserved, but never 0, which an engine reads as no limit."""
    total = node_type.maxmemory_bytes
    reserved = int(given["reserved-memory"])
    left = total - reserved if reserved else total * (100 - int(given.get("reserved-memory-percent", "0"))) // 100
    return max(left, _MIB)


def _same(name: str, wanted: str, running: str) -> bool:
    if wanted == running:  # nearly always; every node is compared at every look
        return True
    if name == _BUFFER_LIMIT:
        return _classes(wanted) == _classes(running)
    if name == _EVENTS:
        return {*wanted.replace("A", "g$lshzxetd")} == {*running.replace("A", "g$lshzxetd")}
    if name == _SAVE:
        return _pairs(wanted) == _pairs(running)
    want, run = _size(wanted), _size(running)
    if want is None or run is None:
        return wanted.lower() == running.lower()
    # An engine that may not open enough files lowers its maxclients by itself; setting it again would fail.
    return want == run or (name == "maxclients" and run < want)


def _size(text: str) -> int | None:
    """`1gb` -> 1073741824, as the engines count (1k is 1000), or None when the text is no size."""
    match = _SIZE.match(text.lower())
    return int(match[1]) * _UNIT[match[2]] if match else None


def _pairs(text: str) -> list[tuple[str, ...]]:
    """`900 1 300 10` -> its save points. The order does not matter, nor that one stands twice."""
    words = text.split()
    return sorted({tuple(words[i : i + 2]) for i in range(0, len(words), 2)})


def _classes(text: str) -> dict[str, tuple[int | None, ...]]:
    words = text.split()
    classes = {}
    for i in range(0, len(words), 4):
        classes[words[i].replace("replica", "slave")] = tuple(_size(word) for word in words[i + 1 : i + 4])
    return classes
