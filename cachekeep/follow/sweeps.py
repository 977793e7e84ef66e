"""The passes over all keys that one lane still has to make, the first one going on. Safe to share between threads."""

from __future__ import annotations

import threading

from cachekeep.follow.keeping import Keeping
from cachekeep.follow.sweep import Sweep, SweepKind
from cachekeep.follow.types import FollowOptions


class Sweeps:
    def __init__(self, options: FollowOptions) -> None:
        self._options = options
        self._all: list[Sweep] = []
        self._owed: list[Keeping] = []
        self._lock = threading.RLock()

    def want(self, volume: Keeping, kind: SweepKind) -> None:
        """Of one kind and volume only one waits at a time."""
        rate = self._options.reconcile_keys_per_s if kind == "proof" else self._options.max_keys_per_s
        with self._lock:
            if kind != "proof" and volume not in self._owed:
                self._owed.append(volume)
            if not any((one.volume, one.kind, one.begun) == (volume, kind, False) for one in self._all):
                self._all.append(Sweep(volume, kind, rate, self._options.count))

    def owes(self, volume: Keeping) -> bool:
        """Whether continuity waits for a pass of this volume, be it that it was given up meanwhile."""
        with self._lock:
            return volume in self._owed

    def first(self) -> Sweep | None:
        with self._lock:
            return self._all[0] if self._all else None

    def has(self, volume: Keeping | None = None, *kinds: SweepKind) -> bool:
        """Whether one is needed, or goes on: of this volume (None: any) and of these kinds."""
        with self._lock:
            return any(volume in (None, one.volume) and one.kind in kinds for one in self._all)

    def done(self, sweep: Sweep) -> None:
        """It came to its end."""
        with self._lock:
            if sweep in self._all:
                self._all.remove(sweep)
                if sweep.volume in self._owed and not self.has(sweep.volume, "base", "gap"):
                    self._owed.remove(sweep.volume)

    def forget(self, volume: Keeping) -> None:
        """The volume is finished."""
        self.drop(volume)
        with self._lock:
            self._owed = [one for one in self._owed if one is not volume]

    def drop(self, volume: Keeping | None = None) -> None:
        """Give them up (of this volume); what is owed stays so."""
        with self._lock:
            gone = [one for one in self._all if volume in (None, one.volume)]
            self._all = [one for one in self._all if one not in gone]
        for one in gone:
            one.give_up()

    def restart(self) -> None:
        """Passes that go on begin again: what they have in hand may be older than what was just learned."""
        with self._lock:
            begun = [one for one in self._all if one.begun]
            for one in begun:
                self._all.remove(one)
                self.want(one.volume, one.kind)
        for one in begun:
            one.give_up()
