"""The passes over all keys that one lane still has to make, the first one going on. Safe to share between threads."""

from __future__ import annotations

import threading

from cachekeep.follow.sweep import Sweep, SweepKind
from cachekeep.follow.types import FollowOptions
from cachekeep.follow.volume import Volume


class Sweeps:
    def __init__(self, options: FollowOptions) -> None:
        self._options = options
        self._all: list[Sweep] = []
        self._lock = threading.Lock()

    def want(self, volume: Volume, kind: SweepKind) -> None:
        """Of one kind and volume only one waits at a time."""
        rate = self._options.reconcile_keys_per_s if kind == "proof" else self._options.max_keys_per_s
        with self._lock:
            if not any((one.volume, one.kind, one.begun) == (volume, kind, False) for one in self._all):
                self._all.append(Sweep(volume, kind, rate, self._options.count))

    def first(self) -> Sweep | None:
        with self._lock:
            return self._all[0] if self._all else None

    def has(self, volume: Volume | None = None, *kinds: SweepKind) -> bool:
        """Whether one is needed, or goes on: of this volume (None: any) and of these kinds."""
        with self._lock:
            return any(volume in (None, one.volume) and one.kind in kinds for one in self._all)

    def done(self, sweep: Sweep) -> None:
        with self._lock:
            if sweep in self._all:
                self._all.remove(sweep)

    def drop(self, volume: Volume | None = None) -> None:
        """None of them (of this volume) is needed any more."""
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
            self.done(one)
            one.give_up()
            self.want(one.volume, one.kind)
