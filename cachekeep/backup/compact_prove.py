"""Whether a compacted generation is what the old one is, from the first kept moment on. Called by backup.compact.

The new one is read back to its last byte. Of keys, a digest of every state at some moments is compared; of a stream,
of every record. What it covers and what its log says of gaps has to be the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository
from cachekeep.backup.catalog_chain import Chain
from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.compact_plan import Plan
from cachekeep.backup.compact_read import records_of
from cachekeep.backup.compact_state import States
from cachekeep.backup.compact_write import Check, Source
from cachekeep.backup.coverage import gap_of, moment_text, stretches
from cachekeep.backup.reader import GenerationReader
from cachekeep.codec.record import encode_records

SLACK_MS = 1000  # of a gap's beginning, which is measured apart from what is covered


def prove(
    repository: Repository, old: GenerationReader, name: str, plan: Plan, states: States | None, folder: Path,
    secret: bytes, check: Check,
) -> None:  # fmt: skip
    """states: those of the old one, judged; None: it is a stream. folder: for an index, empty.

    Raises CatalogError(DAMAGED), which says what is another; BlobError, SegmentError, sqlite3.Error.
    """
    new = GenerationReader.open(repository, name, unfinished=True)
    kept = [(one.since_ms, one.until_ms) for one in plan.kept]
    covered = [(one.since_ms, one.until_ms) for one in stretches(new.chain.entries)]
    if covered != kept:
        raise _other(old.name, name, f"{len(covered)} stretches are covered, and {len(kept)} should be")
    if gaps_since(old, plan.since_ms) != gaps_since(new, plan.since_ms):
        raise _other(old.name, name, "its log tells of other gaps")
    if states is None:
        _prove_stream(repository, old, new, check)
        return
    with States(folder / "proof", plan.moments, secret) as again:
        Source(repository, new.chain, plan, check).feed(again)
        for moment_ms, was, is_ in zip(plan.moments, states.digests, again.digests, strict=True):
            if was != is_:
                raise _other(old.name, name, f"its keys at {moment_text(moment_ms)} are others")


def gaps_since(reader: GenerationReader, since_ms: int) -> list[Gap]:
    return [gap for line in reader.log_lines() if (gap := gap_of(line)) and is_kept(gap, since_ms)]


def is_kept(gap: Gap, since_ms: int) -> bool:
    """Whether it, or the hole that it began, comes after the first kept moment."""
    return gap.start_ms >= since_ms - SLACK_MS if gap.end_ms is None else gap.end_ms > since_ms


def _prove_stream(repository: Repository, old: GenerationReader, new: GenerationReader, check: Check) -> None:
    if _stream_of(repository, old.name, old.chain, check) != _stream_of(repository, new.name, new.chain, check):
        raise _other(old.name, new.name, "its stream is another")
    if _positions(old.chain) != _positions(new.chain):
        raise _other(old.name, new.name, "it ends at another position")


def _stream_of(repository: Repository, name: str, chain: Chain, check: Check) -> dict[tuple[str, str], str]:
    """Per kind and lane, a digest of all records in order."""
    hashers: dict[tuple[str, str], hashlib.blake2b] = {}
    for place in chain.places:
        lane = place.entry.lane if place.entry else ""
        hasher = hashers.setdefault((place.kind, lane), hashlib.blake2b(digest_size=16))
        for records in records_of(repository, name, place, check):
            hasher.update(encode_records(records))
    return {key: hasher.hexdigest() for key, hasher in hashers.items()}


def _positions(chain: Chain) -> dict[str, str]:
    return {entry.lane: entry.position for entry in chain.entries if entry.position}


def _other(old: str, new: str, why: str) -> CatalogError:
    what = f"{new}, made from {old}, is not what that is: {why}"
    return CatalogError(
        CatalogFault.DAMAGED, what, f"it is removed again and {old} stays as it was; please report this"
    )
