"""The command-line options of Memcached: from the parameters of a group, and what of them differs. Pure.

Called by plan.parameters only. Source: memcached(1) and the checks of memcached.c; each was tried on 1.6.18.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.domain.parameters import NodeType

_MIB = 1024 * 1024
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
OPTIONS = frozenset({*_VALUED.values(), *_SWITCHES.values(), "-W", "-m", "-c", "-I", "-o"})


def memcached_options(given: Mapping[str, str], clients: int) -> Mapping[str, str]:
    """given: every parameter of the family with its value. clients: how many may be connected at once."""
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


def cache_mb(node_type: NodeType) -> int:
    """max_cache_memory; a type of unknown Memcached memory gives what it would give Valkey."""
    return (node_type.memcached_bytes or node_type.maxmemory_bytes) // _MIB


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
