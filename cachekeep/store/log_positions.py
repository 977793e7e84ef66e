"""How far the log of each node was delivered: a small file each. Implements domain.log_ports.LogPositions.

Apart from the store of resources: positions change every second, and nobody waits for a change of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from cachekeep.domain.log_delivery import Position
from cachekeep.domain.nodes import NodeKey
from cachekeep.domain.world import WorldError

log = structlog.get_logger()


class LogPositionFiles:
    """folder: made when it is missing. Written whole and moved in place: a torn file cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: NodeKey, log_type: str) -> Position:
        path = self._path(key, log_type)
        try:
            match json.loads(path.read_text()):
                case dict(position):
                    return {str(n): v if isinstance(v, int) else str(v) for n, v in position.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            # Beginning anew repeats lines, which is better than none.
            log.warning("a position of log delivery cannot be read", path=str(path), reason=str(error))
        return {}

    def save(self, key: NodeKey, log_type: str, position: Position) -> None:
        path = self._path(key, log_type)
        partial = path.with_suffix(".partial")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(dict(position), file)
                file.flush()
                os.fdatasync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise WorldError(f"cannot write {path}: {error.strerror}; free space on its disk") from error

    def keep_only(self, wanted: Sequence[tuple[NodeKey, str]]) -> None:
        names = {self._path(key, log_type) for key, log_type in wanted}
        try:
            for path in [p for p in self._folder.glob("*.json") if p not in names]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise WorldError(f"cannot clear {self._folder}: {error.strerror}") from error

    def _path(self, key: NodeKey, log_type: str) -> Path:
        # None of the parts can hold a space, so no two nodes share a file.
        return self._folder / f"{key.region} {key.cluster_id} {key.node_id} {log_type}.json"
