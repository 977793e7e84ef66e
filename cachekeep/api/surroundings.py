"""What a request asks of hardware, networks and keys that AWS has around a cache, and a machine of one's own has not.

Called by every create and modify, and by deletes that take a snapshot. Each wish is refused as AWS refuses it where a
region, a subnet group or an account lacks the thing: it could never be carried out here, and to keep it silently would
promise what nobody keeps. What asks for what is there anyway is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cachekeep.api.context import Call
from cachekeep.domain.faults import invalid_combination

_TIERED = "cache.r6gd."


def refuse_surroundings(call: Call) -> None:
    """Raises InvalidParameterCombination for the first parameter that asks for what is not there."""
    for name, (harmless, why) in _WISHES.items():
        value = call.params.get(name)
        if value is not None and value not in harmless:
            raise invalid_combination(f"{name} {_shown(value)}: {why(call)}")


def _shown(value: object) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return words[:100].lower() if isinstance(value, bool) else words[:100]


def _no_ipv6(call: Call) -> str:
    group = call.text("CacheSubnetGroupName") or "default"
    return (
        f"the subnets of the subnet group {group[:60]} have no IPv6 addresses. Caches listen on loopback IPv4 "
        "addresses only; use ipv4."
    )


def _no_outposts(_: Call) -> str:
    return "there are no Outposts in this account."


def _no_tiering(call: Call) -> str:
    node_type = call.text("CacheNodeType") or ""
    if not node_type.startswith(_TIERED):
        return "data tiering is only supported for replication groups using the r6gd node type."
    return "no engine of this machine keeps values on an SSD; leave it out, and the cache is kept in memory alone."


def _no_durability(_: Call) -> str:
    return (
        "writes are acknowledged from memory. A parameter group with appendonly yes keeps them over a restart of the "
        "node, where its engine version has that parameter."
    )


def _no_keys(call: Call) -> str:
    if not call.flag("AtRestEncryptionEnabled"):
        return "a KMS key can be named only where AtRestEncryptionEnabled is true."
    return "there is no key service here; leave it out, and the installation's own key is used."


# What counts as asking for nothing, and why the rest cannot be had.
_WISHES: Mapping[str, tuple[tuple[object, ...], Callable[[Call], str]]] = {
    "NetworkType": (("ipv4",), _no_ipv6),
    "IpDiscovery": (("ipv4",), _no_ipv6),
    "OutpostMode": ((), _no_outposts),
    "PreferredOutpostArn": ((), _no_outposts),
    "PreferredOutpostArns": (([],), _no_outposts),
    "DataTieringEnabled": ((False,), _no_tiering),
    "Durability": (("default", "disabled"), _no_durability),
    "KmsKeyId": ((), _no_keys),
}
