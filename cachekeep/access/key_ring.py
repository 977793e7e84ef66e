"""The access keys that are good now: those of the start, and those of the key file as it is at each question.

Implements domain.identity.Keys. One look at the file's inode per question (some microseconds) makes every change hold
from the next request on. A key file that cannot be used lets none of its keys in: the log says why, and the keys of
the start go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import structlog

from cachekeep.access import key_file
from cachekeep.access.key_file import Key, KeyFile, KeyFileError
from cachekeep.codec.policy_document import read_policy
from cachekeep.domain.identity import ROOT_IDENTITY, Identity

log = structlog.get_logger()

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class _Known:
    key: Key = field(repr=False)
    identity: Identity


class KeyRing:
    """settled: id -> secret of keys that the key file cannot take over, all of them the owner's.

    own: id and secret of the first-start key, read again when its file changes; None while it cannot be read.
    """

    def __init__(
        self,
        state_dir: Path,
        own_file: Path,
        own: Callable[[], tuple[str, str] | None],
        settled: Mapping[str, str],
        now: Callable[[], float],
    ) -> None:
        self._path, self._own_file = state_dir / key_file.FILE_NAME, own_file
        self._read_own, self._settled, self._now = own, dict(settled), now
        self._lock = Lock()
        self._stamp: _Stamp = None
        self._own_stamp: _Stamp = None
        self._own: tuple[str, str] | None = None
        self._known: Mapping[str, _Known] = {}

    def get(self, key_id: str, /) -> str | None:
        found = self._find(key_id)
        return None if found is None else found[0]

    def identity(self, key_id: str) -> Identity | None:
        found = self._find(key_id)
        return None if found is None else found[1]

    def _find(self, key_id: str) -> tuple[str, Identity] | None:
        with self._lock:
            self._refresh()
            if self._own is not None and key_id == self._own[0]:
                return self._own[1], ROOT_IDENTITY
            if key_id in self._settled:
                return self._settled[key_id], ROOT_IDENTITY
            known = self._known.get(key_id)
        if known is None or not known.key.is_good(self._now()):
            return None
        return known.key.secret, known.identity

    def _refresh(self) -> None:
        own_stamp = _stamp(self._own_file)
        if own_stamp != self._own_stamp or self._own is None:
            self._own_stamp = own_stamp
            # Gone or broken: the key that was good goes on, as the service cannot be asked for a new one.
            self._own = self._read_own() or self._own
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = _known(key_file.read(self._path))
            log.info("access keys read", count=len(self._known))
        except KeyFileError as error:
            self._known = {}
            log.warning("no further access key is let in", reason=str(error))


def _known(content: KeyFile) -> dict[str, _Known]:
    found = {key.id: _Known(key, ROOT_IDENTITY) for key in content.former_root}
    for user in content.users:
        identity = Identity(user.name, None if user.policy is None else read_policy(user.policy))
        found |= {key.id: _Known(key, identity) for key in user.keys}
    return found


def _stamp(path: Path) -> _Stamp:
    try:
        seen = path.stat()
    except OSError:
        return None
    # The mode is in the change time; a file that became readable by others is read anew, and refused.
    return seen.st_ino, seen.st_ctime_ns, seen.st_size
