"""Where engines listen, as node.json tells it, for whoever asks a node without having looked at it; and who is there.

Called by host.local and the app. Kept up to date by every look at a node whose ports change (plan.transit).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cachekeep.domain.nodes import Address, NodeSpec, ProgramKind
from cachekeep.domain.transit import Listening
from cachekeep.domain.world import WorldError
from cachekeep.host import folder as files


def recorded(listening: Listening) -> dict[str, Any]:
    """As node.json has it."""
    return {"port": listening.port, "tls": listening.tls}


def write_listening(folder: Path, directives: Mapping[str, str]) -> None:
    """Write down what an engine's configuration tells, where it is not written already. Raises WorldError."""
    path, listening = folder / "node.json", Listening.of(directives)
    record = files.read_json(path)
    if record and listening is not None and record != record | recorded(listening):
        with files.told_as_world_error("write", path):
            files.write_json(path, record | recorded(listening))


def listening_below(root: Path) -> Mapping[Address, Listening]:
    """How every node was last seen to listen, by its address. root: the folder of all nodes."""
    found = {}
    for key in files.keys_below(root):
        record = files.read_json(files.folder_of(root, key) / "node.json")
        host, colon, own = str(record.get("address", "")).rpartition(":")
        # Earlier versions wrote the address alone.
        port = record.get("port", int(own) if own.isdecimal() else 0)
        if colon and isinstance(port, int) and 0 < port < 65536:
            found[Address(host, int(own))] = Listening(port, bool(record.get("tls")))
    return found


def refuse_taken(spec: NodeSpec) -> None:
    """Raise WorldError when somebody else listens at the node's address: two engines must not be mixed up."""
    if spec.program is ProgramKind.SWITCH:  # it waits for the engines to leave
        return
    port = Listening.wanted(spec.transit, spec.address.port).port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((spec.address.host, port))
        except OSError as error:
            raise WorldError(
                f"{spec.address} of {spec.key} is taken by another process ({error.strerror}); "
                "end that process, then the node starts"
            ) from error
