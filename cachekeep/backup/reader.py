"""Read a generation: its records in the order of truth, the engine's own streams, the logs.

Strict unless on_damage is given: then what is whole is read and every damage is told. Called by restore, diff, export.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

import msgspec

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status, log_object
from cachekeep.backup.catalog_chain import Chain, Finding, Place, read_chain, verified_frames
from cachekeep.backup.catalog_objects import DamagedObjectError, KindName, LogEnd, fetch, parse_object
from cachekeep.codec.record import PIECE_HEADER_BYTES, Kind, Record, piece_number
from cachekeep.codec.seal import SealError
from cachekeep.codec.segment import SegmentError

_MORE = int(Kind.MORE)  # MORE and LAST are the highest kinds; a plain number, for speed
# Enough that neither thread waits for the other; a frame is 1 MiB or so.
_FRAMES_AHEAD = 3
OnDamage = Callable[[Finding], None]


class GenerationReader:
    """One generation, opened for reading."""

    def __init__(self, repository: Repository, read: Chain, on_damage: OnDamage | None = None) -> None:
        self._repository, self.chain, self._on_damage = repository, read, on_damage
        self.name = read.generation.name

    @classmethod
    def open(
        cls, repository: Repository, name: str, *, unfinished: bool = False, on_damage: OnDamage | None = None
    ) -> GenerationReader:
        """Raises CatalogError: ABSENT; STATE for an unfinished one unless wished; DAMAGED without on_damage."""
        read = read_chain(repository, name)
        if read.generation.status is Status.UNFINISHED and not unfinished:
            raise CatalogError(
                CatalogFault.STATE, f"{name} is unfinished", "resume it, or ask for an unfinished one explicitly"
            )
        for finding in read.findings:
            if on_damage is None:
                raise CatalogError(
                    CatalogFault.DAMAGED, str(finding), "ask for what is still whole to be read, or take another backup"
                )
            on_damage(finding)
        return cls(repository, read, on_damage)

    def records(self, kinds: Iterable[KindName] = ("base", "changes", "functions")) -> Iterator[Record]:
        """In the order of truth, pieces put together: the last one of a (database, key) is its state."""
        return chain.from_iterable(self.batches(kinds))

    def batches(self, kinds: Iterable[KindName] = ("base", "changes", "functions")) -> Iterator[list[Record]]:
        """The same, a frame at a time: some hundred kB up to some MiB of records."""
        for _, records in self.numbered(kinds):
            yield records

    def numbered(
        self, kinds: Iterable[KindName], wanted: Callable[[Place], bool] = lambda place: True
    ) -> Iterator[tuple[int, list[Record]]]:
        """The same with the number of the entry that they are of. wanted: segments that it denies are not read."""
        kinds = set(kinds)
        for place in self.chain.places:
            if place.kind in kinds and wanted(place):
                joiner = Joiner()
                for records in self._decoded(place):
                    yield place.number, joiner.feed(records)

    def stream(self, kind: KindName, lane: str) -> Iterator[bytes]:
        """The engine's own bytes, `rdb` or `commands`, of one source node. Damage in it is never skipped."""
        for place in self.chain.places:
            if place.kind != kind:
                continue
            if place.entry is None:
                what = f"{self.name}: the entry {place.number} of a stream is damaged, and with it whose it is"
                raise CatalogError(CatalogFault.DAMAGED, what, "take another backup")
            if place.entry.lane == lane:
                for records in self._decoded_ahead(place):
                    yield from (record.payload for record in records)

    def log_lines(self) -> Iterator[dict[str, Any]]:
        """Interruptions, skipped keys and the like, in order."""
        for number in sorted(self.chain.generation.objects.logs):
            try:
                yield from read_log(self._repository, self.name, number)
            except DamagedObjectError as error:
                finding = Finding(self.name, f"{log_object(self.name, number)}: {error}")
                if self._on_damage is None:
                    raise CatalogError(CatalogFault.DAMAGED, str(finding), "read it without its logs") from error
                self._on_damage(finding)

    def _decoded_ahead(self, place: Place) -> Iterator[list[Record]]:
        """The next frames are found and proved while a thread decodes those before them."""
        with ThreadPoolExecutor(1) as decoding:
            ahead: deque[Future[list[Record]]] = deque()
            for frame in verified_frames(self._repository, self.name, place):
                ahead.append(decoding.submit(frame.decode, self._repository.sealer))
                if len(ahead) > _FRAMES_AHEAD:
                    yield ahead.popleft().result()
            for decoded in ahead:
                yield decoded.result()

    def _decoded(self, place: Place) -> Iterator[list[Record]]:
        sealer = self._repository.sealer
        for frame in verified_frames(self._repository, self.name, place, self._on_damage):
            try:
                records = frame.decode(sealer)
            except SegmentError as error:
                if self._on_damage is None:
                    raise
                what = f"entry {place.number}, {error}"
                self._on_damage(Finding(self.name, what, place.number, place.segment, error.frame, error.offset))
            else:
                yield records


class Joiner:
    """Puts the pieces of large values together. A value of which a piece is lost is left out: never half of one."""

    def __init__(self) -> None:
        self._held: list[Record] = []

    def feed(self, records: list[Record]) -> list[Record]:
        """The records of the next frame, with values that became whole and without pieces."""
        if not self._held and not [record for record in records if record.kind >= _MORE]:
            return records
        return [whole for record in records for whole in self._taken(record)]

    def _taken(self, record: Record) -> Iterator[Record]:
        held = self._held
        if record.kind < Kind.MORE:
            self._held = []
            yield record
            return
        number = piece_number(record)
        if number != len(held) or (held and (record.key, record.db) != (held[0].key, held[0].db)):
            self._held = held = []
            if number:
                return
        held.append(record)
        if record.kind == Kind.LAST:
            self._held = []
            payload = b"".join(memoryview(piece.payload)[PIECE_HEADER_BYTES:] for piece in held)
            if not payload:
                return
            yield msgspec.structs.replace(record, kind=int(Kind.UPSERT), payload=payload)


def read_log(repository: Repository, name: str, number: int) -> list[dict[str, Any]]:
    """The lines of a log. Raises DamagedObjectError, BlobError."""
    where = log_object(name, number)
    data = fetch(repository.blobs, where)
    end = parse_object(data, LogEnd)
    if (end.generation, end.number) != (name, number):
        raise DamagedObjectError(f"it belongs to {end.generation}, number {end.number}")
    lines = data[: data.rfind(b"\n", 0, -1) + 1]
    try:
        if end.sealed:
            if repository.sealer is None:
                raise DamagedObjectError("it is sealed")
            lines = repository.sealer.unseal(base64.b64decode(end.sealed, validate=True), where.encode())
        found = msgspec.json.Decoder(dict[str, Any]).decode_lines(lines)
    except (SealError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise DamagedObjectError(f"its lines cannot be read: {error}") from error
    if len(found) != end.lines:
        raise DamagedObjectError(f"{len(found)} lines are there and {end.lines} should be")
    return found
