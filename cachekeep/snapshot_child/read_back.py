"""Reads a generation back while it is still being written: each segment as soon as it is durable. For `order`.

On a machine with a second core the proof costs little time beside the copy. What counts is the whole: `findings` goes
through everything once more from the listing on, and reads what was not read yet.
"""

from __future__ import annotations

import threading

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.catalog_chain import Chain, Finding, read_chain, verified_frames

_EVERY_S = 0.2


class ReadBack:
    """Begin with `start`, once the generation has its name; `findings` waits for the end."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._name = ""
        self._read: set[str] = set()
        self._findings: list[Finding] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self, name: str) -> None:
        self._name = name
        self._thread.start()

    def stop(self) -> None:
        """The copy has failed, or is at its end."""
        self._over.set()
        if self._name:
            self._thread.join()

    def findings(self, name: str) -> list[Finding]:
        """Everything that is wrong with the finished generation; none when nothing is."""
        self.stop()
        if name != self._name:
            self._name = name
            self._read.clear()
        chain = read_chain(self._repository, name)
        self._verify(chain)
        return [*chain.findings, *self._findings]

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                self._verify(read_chain(self._repository, self._name))
            except CatalogError:
                continue  # it has its name, and is not there yet

    def _verify(self, chain: Chain) -> None:
        for place in chain.places:
            if place.segment in self._read or place.entry is None:
                continue
            for _ in verified_frames(self._repository, self._name, place, self._findings.append, contents=True):
                pass
            self._read.add(place.segment)
