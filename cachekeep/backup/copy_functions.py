"""The functions of a source (FUNCTION LOAD, from 7.0): one record. Called by backup.copy after the keys."""

from __future__ import annotations

from functools import partial

from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.copy_run import Run
from cachekeep.backup.copy_segments import Segments
from cachekeep.backup.interruptions import Patience, now_ms
from cachekeep.backup.survey_types import Ability, Node
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import Refusal, RemoteError

_EMPTY_BYTES = 10  # a payload of nothing is its footer


def copy_functions(run: Run, nodes: list[Node]) -> list[Gap]:
    """In cluster mode those of the first node; others that differ are noted. A gap where they are denied."""
    if run.survey.target.number < (7, 0):
        return []
    if not run.survey.can(Ability.FUNCTIONS):
        return [_gap(run.survey.denied[Ability.FUNCTIONS])]
    found: dict[str, bytes] = {}
    for node in nodes:
        try:
            found[node.lane] = _patiently(run, node)
        except Refusal as refusal:
            return [_gap(str(refusal))]
    lane, payload = next(iter(found.items()))
    differ = [other for other, bytes_ in found.items() if bytes_ != payload]
    if differ:
        run.journal.note(f"the functions of {', '.join(differ)} differ from those of {lane}, which were copied")
    if len(payload) > _EMPTY_BYTES:
        captured_ms = now_ms() + run.survey.clock_ahead_ms
        with Segments(run, "functions", lane, None) as segments:
            segments.add([Record(int(Kind.FUNCTIONS), 0, NO_EXPIRY, captured_ms, b"", payload)])
            segments.close(None)
    return []


def _patiently(run: Run, node: Node) -> bytes:
    ask = partial(_dumped, run, node)
    try:
        return ask()
    except RemoteError as error:
        return Patience(node.lane, run.options.patience_s, run.halt, run.journal).outlast(error, ask)


def _dumped(run: Run, node: Node) -> bytes:
    with run.connect(node) as connection:
        return bytes(connection.ask("FUNCTION", "DUMP"))


def _gap(words: str) -> Gap:
    return Gap(start_ms=now_ms(), end_ms=None, reason=f"functions were not copied: {words}")
