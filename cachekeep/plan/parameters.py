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
}
_LISTPACK = _V((7, 0))  # Redis 7 renamed ziplist to listpack and always replicates the effects of scripts
_BUFFER_LIMIT = "client-output-buffer-limit"
_EVENTS = "notify-keyspace-events"
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
        return (
            f"The parameter {parameter.name} cannot be modified to the value {value}; it takes {parameter.data_type}s."
        )
    if parameter.name == _EVENTS:
        fits, allowed = set(value) <= set(_event_letters(parameter)), f"the letters {_event_letters(parameter)}"
    elif parameter.name == "rename-commands":
        fits, allowed = _renames(parameter.allowed, value), "pairs of a command and its new name"
    else:
        fits, allowed = _in_allowed(parameter, value), parameter.allowed
    if fits:
        return None
    return f"The parameter {parameter.name} cannot be modified to the value {value}; allowed values are {allowed}."


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
        "max_cache_memory": _cache_mb(node_type),
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
) -> Mapping[str, str]:
    """The directives (Valkey, Redis) or options (Memcached) of a node whose group holds `values`.

    Directives read as CONFIG GET gives them back, except `client-output-buffer-limit`: one line for each class, as
    engines before 7 want it in the file. An option without an argument (`-C`) has an empty value. can_defrag: the
    engine was built with its own jemalloc; any other refuses to start with `activedefrag yes`, so that directive is
    left out. open_files: how many files the process may open, which bounds its clients; Memcached does not start
    when it may not open enough.
    """
    given = effective_values(family, values, node_type)
    clients = node_type.maxclients if open_files is None else max(3, min(node_type.maxclients, open_files - 64))
    if engine is Engine.MEMCACHED:
        return _memcached_options(given, clients)
    config = {}
    for name, value in given.items():
        directive = _directive(name, engine, version)
        if directive is not None and (name != "activedefrag" or can_defrag):
            config[directive] = _directive_value(name, value)
    config[_BUFFER_LIMIT] = _buffer_limits(given)
    config["maxmemory"] = str(_data_bytes(given, node_type))
    config["maxclients"] = str(clients)
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
        started_with = {name: value for name, value in running.items() if name in _OPTIONS}
        return Drift(restart={} if started_with == dict(wanted) else dict(wanted))
    late = {name for name, p in family.parameters.items() if p.change is ChangeType.REQUIRES_REBOOT}
    live, restart = {}, {}
    for name in sorted(wanted.keys() & running.keys()):
        if _same(name, wanted[name], running[name]) or (
            name == "databases" and running.get("cluster-enabled") == "yes"
        ):
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
    if name in RECORDED_ONLY or name.startswith(("reserved-memory", _BUFFER_LIMIT)):
        return None
    known = EngineVersion((version.major, version.minor))
    older_redis = engine is Engine.REDIS and known < _LISTPACK
    if name == "lua-replicate-commands":
        return name if older_redis else None
    name = name.replace("slave", "replica")  # since 5.0; the old names are only aliases
    if older_redis:
        name = name.replace("listpack", "ziplist")
    if name in _KNOWN_SINCE:
        since = _KNOWN_SINCE[name][0 if engine is Engine.REDIS else 1]
        return name if since is not None and since <= known else None
    return name


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
    want, run = _size(wanted), _size(running)
    if want is None or run is None:
        return wanted.lower() == running.lower()
    # An engine that may not open enough files lowers its maxclients by itself; setting it again would fail.
    return want == run or (name == "maxclients" and run < want)


def _size(text: str) -> int | None:
    """`1gb` -> 1073741824, as the engines count (1k is 1000), or None when the text is no size."""
    match = _SIZE.match(text.lower())
    return int(match[1]) * _UNIT[match[2]] if match else None


def _classes(text: str) -> dict[str, tuple[int | None, ...]]:
    words = text.split()
    classes = {}
    for i in range(0, len(words), 4):
        classes[words[i].replace("replica", "slave")] = tuple(_size(word) for word in words[i + 1 : i + 4])
    return classes


# --- Memcached --------------------------------------------------------------------------------------------------

_VALUED = {
    "backlog_queue_limit": "-b",
    "binding_protocol": "-B",
    "chunk_size": "-n",
    "chunk_size_growth_factor": "-f",
    "num_threads": "-t",
    "requests_per_event": "-R",
}
_SWITCHES = {"cas_disabled": "-C", "error_on_memory_exhausted": "-M", "disable_flush_all": "-F"}
# Order matters: no_modern resets what the others then set. The rest are passed only when on, since "off" means
# "as the engine has it" (AWS: with no_modern 0 the engine's own defaults apply).
_EXTENDED_SWITCHES = ("no_modern", "slab_reassign", "lru_crawler", "lru_maintainer", "maxconns_fast", "track_sizes")
_EXTENDED = {
    "hashpower_init": "hashpower",
    "hash_algorithm": "hash_algorithm",
    "slab_automove": "slab_automove",
    "idle_timeout": "idle_timeout",
    "watcher_logbuf_size": "watcher_logbuf_size",
}
_OPTIONS = frozenset({*_VALUED.values(), *_SWITCHES.values(), "-W", "-m", "-c", "-I", "-o"})


def _cache_mb(node_type: NodeType) -> int:
    """max_cache_memory; a type of unknown Memcached memory gives what it would give Valkey."""
    return (node_type.memcached_bytes or node_type.maxmemory_bytes) // _MIB


def _memcached_options(given: Mapping[str, str], clients: int) -> Mapping[str, str]:
    """Source: memcached(1) and the checks of memcached.c; each was tried on 1.6.18."""
    memory_mb = max(8, int(given["max_cache_memory"]) - int(given["memcached_connections_overhead"]))
    item, chunk = _item_and_chunk(int(given["max_item_size"]), int(given["slab_chunk_max"]), memory_mb * _MIB // 2)
    options = {"-m": str(memory_mb), "-c": str(clients), "-I": str(item)}
    options |= {option: given[name] for name, option in _VALUED.items()}
    options |= {option: "" for name, option in _SWITCHES.items() if given[name] == "1"}
    if given["watch"] == "0":
        options["-W"] = ""
    extended = [name for name in _EXTENDED_SWITCHES if given.get(name) == "1"]
    extended += [f"{option}={given[name]}" for name, option in _EXTENDED.items()]
    options["-o"] = ",".join([*extended, f"slab_chunk_max={chunk // 1024}"])
    return options


def _item_and_chunk(item: int, chunk_limit: int, most: int) -> tuple[int, int]:
    """Largest item and largest chunk, in bytes, as memcached takes them.

    It wants chunks that divide both an item and a page of 1 MiB, in kilobytes, and items of at most half its
    memory; AWS takes any numbers. So chunks become a power of two, and the item is rounded up to whole chunks
    (by an eighth at most, above 8 KiB) or down to half the memory.
    """
    chunk = 1024
    while chunk * 2 <= min(chunk_limit, item, _MIB):
        chunk *= 2
    while item % chunk and chunk > 1024 and chunk * 8 > item:
        chunk //= 2
    rounded = -(-item // chunk) * chunk
    return (rounded if rounded <= most else most // chunk * chunk), chunk
