"""What became of each key, counted once per key even when a backup has it twice. Called by restore, verify and diff.

A scan may return a key more than once (a hash table that shrinks, a copy that went on, a slot that moved), and then
the last record counts. So verdicts are noted in order, 17 bytes a key, and settled at the end.

Keys are known by Python's own hash of their bytes: 64 bits, keyed anew in every process. Two keys of one database with
the same hash would count as one, and one of them would never be seen as unknown to the backup: it is kept, not
deleted. For a million keys the chance is 1 in 37 million.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

_CHUNK = 1 << 16
_PARTS = 8
_LOWEST, _SPAN = -(1 << 63), (1 << 64) // _PARTS


class Ledger:
    """Of one database. A verdict is a number below 256; those in `absent` say that the backup has no such key."""

    def __init__(self, absent: Iterable[int] = ()) -> None:
        self._hashes, self._verdicts = array("q"), bytearray()
        self._sorted: list[array[int]] = []  # of each chunk: sorting a little at a time hides behind waiting
        self._absent = frozenset(absent)
        self._members: array[int] | None = None

    def __len__(self) -> int:
        """Verdicts noted, those of keys that came twice among them."""
        return len(self._hashes)

    def note(self, keys: Iterable[bytes], verdicts: bytes | bytearray) -> None:
        """One verdict for each key, in the order in which the backup has them."""
        self._hashes.extend(map(hash, keys))
        self._verdicts += verdicts
        self._members = None
        if self._sorted and len(self._sorted[-1]) < _CHUNK:  # sorted too early, to answer a question
            self._sorted.pop()
        while len(self._hashes) - len(self._sorted) * _CHUNK >= _CHUNK:
            self._sort_chunk()

    def settled(self) -> Counter[int]:
        """How many keys have each verdict as their last one."""
        counts = Counter(self._verdicts)
        twice = self._twice()
        if twice:
            last: dict[int, int] = {}
            for key, verdict in zip(self._hashes, self._verdicts, strict=True):
                if key in twice:
                    if key in last:
                        counts[last[key]] -= 1
                    last[key] = verdict
        return +counts

    def ended_after(self, first: int, last: Collection[int]) -> set[int]:
        """The hashes of keys that once had the verdict `first`, and had one of `last` in the end."""
        twice, found = self._twice(), dict[int, tuple[bool, int]]()
        for key, verdict in zip(self._hashes, self._verdicts, strict=True) if twice else ():
            if key in twice:
                had, _ = found.get(key, (False, 0))
                found[key] = had or verdict == first, verdict
        return {key for key, (had, verdict) in found.items() if had and verdict in last}

    def knows(self, keys: Sequence[bytes]) -> list[bool]:
        """For each key, whether the backup has it."""
        members = self._members
        if members is None:
            members = self._members = self._gathered()
        size, found = len(members), list[bool]()
        for key in map(hash, keys):
            at = bisect_left(members, key)
            found.append(at < size and members[at] == key)
        return found

    def _gathered(self) -> array[int]:
        """The hashes of all keys whose last verdict is not one of absence, in order."""
        gone: set[int] = set()
        if self._absent.intersection(self._verdicts):
            for key, verdict in zip(self._hashes, self._verdicts, strict=True):
                if verdict in self._absent:
                    gone.add(key)
                else:
                    gone.discard(key)
        gathered = array("q")
        for part in self._parts():
            gathered.extend(part if not gone else [key for key in part if key not in gone])
        return gathered

    def _twice(self) -> set[int]:
        return {one for part in self._parts() for one, other in pairwise(part) if one == other}

    def _parts(self) -> Iterable[list[int]]:
        """All hashes in order, a part at a time: sorting runs that are in order takes little, and so does a part."""
        if sum(map(len, self._sorted)) < len(self._hashes):
            self._sort_chunk()
        for number in range(_PARTS):
            low, high = _LOWEST + number * _SPAN, _LOWEST + (number + 1) * _SPAN
            part: list[int] = []
            for chunk in self._sorted:
                first = bisect_left(chunk, low)
                part += chunk[first : bisect_left(chunk, high, first)]
            part.sort()
            yield part

    def _sort_chunk(self) -> None:
        """The next chunk, or what there is of it."""
        start = len(self._sorted) * _CHUNK
        self._sorted.append(array("q", sorted(self._hashes[start : start + _CHUNK])))
