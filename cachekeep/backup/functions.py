"""Function libraries: put back what differs. Called by backup.restore and backup.diff.

FUNCTION DUMP gives all libraries at once, in an order that says nothing. Those that the backup does not know stay.
"""

from __future__ import annotations

from cachekeep.backup.routing import Routes
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.dump import DumpError, rdb_version, rdb_version_of, with_version
from cachekeep.codec.dump.reader import Reader
from cachekeep.domain.remote import Refusal

_LIBRARY = 245  # RDB_OPCODE_FUNCTION2
_FOOTER_BYTES = 10
_SHARED_VERSION = 11


def libraries(payload: bytes | None) -> frozenset[bytes]:
    """The source text of each library, its name in the first line. Raises DumpError."""
    if payload is None or len(payload) <= _FOOTER_BYTES:
        return frozenset()
    reader = Reader(payload, 0, len(payload) - _FOOTER_BYTES)
    found = set[bytes]()
    while reader.at < reader.end:
        if reader.take(1)[0] != _LIBRARY:
            raise DumpError("the payload of FUNCTION DUMP has something that is no library")
        found.add(reader.string())
    return frozenset(found)


def functions_at(routes: Routes) -> list[frozenset[bytes]]:
    """Of each node. Raises Refusal, RemoteError, DumpError."""
    return [libraries(routes.side(place, 0).ask("FUNCTION", "DUMP")) for place in routes.places()]


def restore_functions(payload: bytes | None, routes: Routes, *, delete_extra: bool, dry_run: bool) -> str:
    """Returns `none`, `kept`, `written`, or `refused: why`. Raises RemoteError.

    delete_extra: libraries that the backup does not have are removed.
    """
    survey = routes.survey
    try:
        wanted = libraries(payload)
        if not survey.can(Ability.FUNCTIONS) or not survey.target.counts_stream_entries:
            return f"refused: {_why_not(survey)}" if wanted else "none"
        there = functions_at(routes)
        if not wanted and not (delete_extra and any(there)):
            return "none"
        if all(have == wanted if delete_extra else have >= wanted for have in there):
            return "kept"
        if not dry_run:
            _write(_adapted(payload, survey) if payload and wanted else None, routes, delete_extra=delete_extra)
    except Refusal as refusal:
        return f"refused: {refusal}"
    except DumpError as error:
        return f"refused: {error}"
    return "written"


def _write(payload: bytes | None, routes: Routes, *, delete_extra: bool) -> None:
    for place in routes.places():
        connection = routes.side(place, 0)
        if payload is None:
            connection.ask("FUNCTION", "FLUSH")
        else:
            connection.ask("FUNCTION", "RESTORE", payload, "FLUSH" if delete_extra else "REPLACE")


def _adapted(payload: bytes, survey: Survey) -> bytes:
    newest, version = rdb_version_of(survey.target), rdb_version(payload)
    return payload if version <= min(newest, _SHARED_VERSION) or version == newest else with_version(payload, newest)


def _why_not(survey: Survey) -> str:
    if not survey.target.counts_stream_entries:
        return f"{survey.target} has no functions: 7.0 is the first"
    return survey.denied[Ability.FUNCTIONS]
