"""The source that a migration names. Used by the operations on migrations."""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.api.ops.members import members_of
from cachekeep.domain.faults import invalid_value
from cachekeep.domain.nodes import Address
from cachekeep.domain.replication_group import ReplicationGroup

LONGEST_HOST = 253


def source_of(call: Call) -> Address:
    """Raises InvalidParameterValue."""
    given = call.params.get("CustomerNodeEndpointList") or []
    if len(given) != 1:
        raise invalid_value(f"CustomerNodeEndpointList must have exactly one element, not {len(given)}.")
    host, port = given[0].get("Address") or "", given[0].get("Port")
    # It becomes a word of a command to an engine, and of sentences.
    if not 0 < len(host) <= LONGEST_HOST or not host.isascii() or not all(c.isalnum() or c in ".-_:" for c in host):
        raise invalid_value(f"{host[:60]!r} is not a valid address: it must be a host name or an IP address.")
    if port is None:
        raise invalid_value("CustomerNodeEndpointList must name the Port of the source.")
    if not isinstance(port, int) or not 0 < port < 65536:
        raise invalid_value(f"Invalid port {port}: it must be between 1 and 65535.")
    return Address(host, port)


def check_not_own(call: Call, group: ReplicationGroup, source: Address) -> None:
    """By address; by another name of it, control finds out."""
    own = {address for member in members_of(call.services.store, group) for address in member.addresses}
    if source in own | set(group.endpoints):
        owner = f"replication group {group.id}" if group.serverless is None else f"serverless cache {group.serverless}"
        raise invalid_value(f"{source} is a node of {owner} itself.")
