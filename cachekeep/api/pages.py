"""The signed pages at `/_cachekeep/NAME`, in JSON: what AWS's API has no operation for. Used by the CLI.

Signed like any request, with the scope `cachekeep`. GET asks, POST changes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cachekeep.api.dispatch import Dispatcher
from cachekeep.api.gate import Gate, Visit
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.identity import OK
from cachekeep.domain.ports import WorldError

# How many notes of a journal are told at once, at most and unless told otherwise.
MOST_NOTES = 5000
# Pages that a region in the query means nothing to: those that tell of all, and those of the region of the signature.
_OF_ALL = frozenset({"status"})
_OF_SIGNATURE = frozenset({"topics", "watch"})
USUAL_NOTES = 1000


@dataclass(frozen=True)
class PageCall:
    """region: of the signature. body: the JSON object of a POST, empty for a GET. access_key: who signed."""

    region: str
    method: str
    query: Mapping[str, str]
    body: Mapping[str, Any] = field(default_factory=dict)
    access_key: str = ""

    def number(self, name: str, usual: float) -> float:
        """Raises InvalidParameterValue for what is no number."""
        text = self.query.get(name, "")
        try:
            value = float(text) if text else usual
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise invalid_value(f"{name} must be a number, not {text[:40]!r}.")
        return value


# Returns JSON values, at once or when awaited. May raise Fault or WorldError.
Page = Callable[[PageCall], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]


def json_body(request: HttpRequest) -> Mapping[str, Any]:
    """Raises InvalidParameterValue for a body that is no JSON object."""
    if not request.body:
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):  # of a thousand lists in each other, too
        body = None
    if not isinstance(body, dict):
        raise invalid_value("The body must be a JSON object.")
    return body


@contextmanager
def let_in(gate: Gate, visit: Visit, request: HttpRequest, query: Mapping[str, str]) -> Iterator[None]:
    """Ask at the gate, and write down how it ended. The action is `cachekeep:GetNAME` or `cachekeep:ChangeNAME`, such
    as `cachekeep:GetRightSize`, on everything.

    For a policy the region is the one that the page really tells of. Raises AccessDenied.
    """
    page = request.path.rpartition("/")[2]
    name = "".join(part.capitalize() for part in page.split("-"))
    outcome = "InternalFailure"
    try:
        visit.asks("cachekeep", ("Get" if request.method in ("GET", "HEAD") else "Change") + name)
        body = json_body(request) if visit.changes else {}
        # Not their values: an endpoint may have a password in it.
        visit.parameters = {key: body[key] for key in ("action", "name") if key in body}
        gate.check(visit, _region_of(page, visit, query))
        yield
        outcome = OK
    except Fault as fault:
        outcome = fault.code
        raise
    except WorldError:
        outcome = "ServiceUnavailable"
        raise
    finally:
        gate.end(visit, outcome)


def _region_of(page: str, visit: Visit, query: Mapping[str, str]) -> str | None:
    """None for all: also where the query names none, as what a page tells then is for the page to say."""
    if page in _OF_ALL:
        return None
    return visit.region if page in _OF_SIGNATURE else query.get("region") or None


def journal_page(dispatcher: Dispatcher) -> Page:
    """?name=&region=&since=&limit=: the newest notes since then (seconds since 1970), oldest first."""

    def page(call: PageCall) -> Mapping[str, Any]:
        since, limit = call.number("since", 0.0), int(call.number("limit", USUAL_NOTES))
        region = call.query.get("region") or call.region
        name = call.query.get("name", "").lower()
        owner, notes = dispatcher.journal(region, name, since=since, limit=max(1, min(limit, MOST_NOTES)))
        return {
            "region": region,
            "resource": owner,
            "notes": [{"at": note.at, "sentence": note.sentence} for note in notes],
        }

    return page
