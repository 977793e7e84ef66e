"""How a source can be followed: each method tried in order, as far as that changes nothing. Called before all else.

PSYNC carries every change and proves its own continuity by offsets. CLIENT TRACKING names keys, needs no setting of
the server. Keyspace notifications name keys and databases, where the server is set to send them. Polling needs nothing
but SCAN and DUMP, and knows moments only, not what lay between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from cachekeep.backup.copy_method import choose as choose_copy
from cachekeep.backup.copy_types import CopyOptions
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.info import parse_info
from cachekeep.domain.engine import Engine
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault, ScratchEngines, understood
from cachekeep.follow import psync_time_left
from cachekeep.follow.signals import EVENTS, SPACES, notify, track
from cachekeep.follow.types import Choice, FollowMethod, FollowOptions

_PROBE_S = 2.0
_CLASSES = frozenset("g$lshzxet")  # what A stands for; d is of modules
_NAMES = {"psync": "PSYNC", "tracking": "CLIENT TRACKING", "keyspace": "keyspace notifications", "poll": "polling"}
_GROUPS = (
    "changes of consumer groups (XREADGROUP, XACK, XCLAIM, XGROUP, XSETID) and of functions are announced by nothing:"
    " they are found by the counters of INFO commandstats twice a second, and read again"
)
_LIMITS: dict[FollowMethod, tuple[str, ...]] = {
    "psync": (
        "a moment is when a change came here; what the source did before it sent it is not seen",
        "the source keeps at most client-output-buffer-limit replica for us, and repl-backlog-size while we are away;"
        " then a new copy begins",
        "min-replicas-to-write of the source counts us as a replica some of the time, WAIT never does",
    ),
    "tracking": (
        "a key is read some milliseconds after it changed, so a value that lived shorter may be missing in between",
        _GROUPS,
        "SWAPDB is found by the same counters, and leaves a gap of some seconds",
    ),
    "keyspace": (
        "a key is read some milliseconds after it changed, so a value that lived shorter may be missing in between",
        "FLUSHDB, FLUSHALL and SWAPDB are announced by nothing: found by the counters of INFO commandstats twice"
        " a second, they leave a gap of some seconds",
        _GROUPS,
    ),
    "poll": (
        "every pass reads all keys; only the end of a pass can be restored, and each key is as of a moment within it",
        "what a key was between two passes is not known",
    ),
}
_INEXACT = "expiries may be off by some milliseconds: the server tells only the time that is left"
_LOOKS_USED = "reading makes every key look used to the server's eviction by LRU or LFU: it has no CLIENT NO-TOUCH"


@dataclass(frozen=True)
class Rung:
    """One method of the ladder. reason: why not; None where it can be. certain: False where nothing proves it yet."""

    method: FollowMethod
    reason: str | None
    certain: bool = True
    patterns: tuple[str, ...] = ()


def ladder(remote: Remote, survey: Survey, scratch: ScratchEngines | None) -> list[Rung]:
    """All methods, best first. Raises RemoteError."""
    return [
        Rung("psync", _why_no_psync(survey, scratch)),
        Rung("tracking", _why_unreadable(survey) or _why_no_tracking(remote)),
        _keyspace(remote, survey),
        Rung("poll", _why_unreadable(survey)),
    ]


def choose(remote: Remote, survey: Survey, options: FollowOptions, scratch: ScratchEngines | None) -> Choice:
    """The method, one sentence why, and its limits. Raises RemoteError(DENIED) when what was asked for cannot be."""
    rungs = ladder(remote, survey, scratch)
    if options.source != "auto":
        rung = next(rung for rung in rungs if rung.method == options.source)
        hard = rung.reason if rung.method != "psync" else _why_impossible(survey)
        if hard:
            what = f"{_NAMES[rung.method]} was asked for, but {hard}"
            raise RemoteError(RemoteFault.DENIED, what, f"leave `--source {rung.method}` away")
        return Choice(rung.method, f"{_NAMES[rung.method]} was asked for", _limits(survey, rung), rung.patterns)
    reasons: list[str] = []
    for rung in rungs:
        if rung.reason is None and rung.certain:
            why = "; ".join(reasons) or "it carries every change, and is allowed"
            return Choice(rung.method, why, _limits(survey, rung), rung.patterns)
        reasons.append(f"no {_NAMES[rung.method]}, since {rung.reason or 'nothing proves that all of them come'}")
    raise RemoteError(RemoteFault.DENIED, f"{survey.name} cannot be followed: {'; '.join(reasons)}", "see `doctor`")


def _limits(survey: Survey, rung: Rung) -> tuple[str, ...]:
    limits = list(_LIMITS[rung.method])
    if rung.method == "psync" and _tells_time_left(survey):
        limits.append(psync_time_left.LIMIT)
    if rung.method != "psync":
        if not survey.can(Ability.PEXPIRETIME) and not survey.can(Ability.SCRIPTS):
            limits.append(_INEXACT)
        if survey.eviction not in (None, "noeviction", "volatile-ttl", "allkeys-random", "volatile-random"):
            limits += [_LOOKS_USED] if not survey.can(Ability.NO_TOUCH) else []
    if not rung.certain:
        limits.append(
            "the server does not tell its notify-keyspace-events: that all notifications come is proved by the passes"
            " over all keys only"
        )
    return tuple(limits)


def _why_impossible(survey: Survey) -> str | None:
    return None if survey.can(Ability.PSYNC) else survey.denied[Ability.PSYNC]


def _why_no_psync(survey: Survey, scratch: ScratchEngines | None) -> str | None:
    if impossible := _why_impossible(survey):
        return impossible
    if _tells_time_left(survey):
        return f"the stream of {survey.server} tells expiries as time left, which is not exact by the time it comes"
    if survey.mode == "cluster":
        return "in cluster mode slots move between the streams of the nodes, and each move would begin a new copy"
    method, why = choose_copy(survey, CopyOptions(), scratch)
    return None if method == "psync" else why.partition("since ")[2] or why


def _tells_time_left(survey: Survey) -> bool:
    return survey.target.engine is Engine.REDIS and survey.target.number < (7, 0)


def _why_unreadable(survey: Survey) -> str | None:
    return None if survey.can(Ability.DUMP) else survey.denied[Ability.DUMP]


def _why_no_tracking(remote: Remote) -> str | None:
    try:
        with remote.connect() as connection, understood(connection.address):
            track(connection)
    except Refusal as refusal:
        return f"the server refuses CLIENT TRACKING or its channel to this user ({refusal})"
    return None


def _keyspace(remote: Remote, survey: Survey) -> Rung:
    if reason := _why_unreadable(survey):
        return Rung("keyspace", reason)
    try:
        with remote.connect() as connection, understood(connection.address):
            flags = _flags(connection)
            if flags is not None:
                return _by_flags(connection, flags)
            notify(connection, EVENTS)
            notify(connection, SPACES)
            return _by_listening(remote, connection)
    except Refusal as refusal:
        return Rung("keyspace", f"the server refuses to let this user subscribe ({refusal})")


def why_deaf(connection: Connection, patterns: tuple[str, ...]) -> str | None:
    """Why not all changes are announced to these patterns any more; None where they are, or nobody tells.

    Raises RemoteError.
    """
    flags = _flags(connection)
    if flags is None:
        return None
    needed = {"E" if pattern == EVENTS else "K" for pattern in patterns}
    if not needed & set(flags):
        return (
            f"notify-keyspace-events is {flags!r}, which announces nothing here; set it to A{''.join(sorted(needed))}"
        )
    return _left_out(flags)


def _left_out(flags: str) -> str | None:
    if "A" in flags or set(flags) >= _CLASSES:
        return None
    return f"notify-keyspace-events is {flags!r}, which leaves kinds of changes out; set it to AE"


def _by_flags(connection: Connection, flags: str) -> Rung:
    if not set(flags) & set("EK"):
        return Rung("keyspace", f"notify-keyspace-events is {flags!r}, which announces nothing; set it to AE")
    if reason := _left_out(flags):
        return Rung("keyspace", reason)
    pattern = EVENTS if "E" in flags else SPACES
    notify(connection, pattern)
    return Rung("keyspace", None, patterns=(pattern,))


def _flags(connection: Connection) -> str | None:
    try:
        reply = connection.ask("CONFIG", "GET", "notify-keyspace-events")
    except Refusal:
        return None
    return reply[1].decode("utf-8", "replace") if isinstance(reply, list) and len(reply) == 2 else None


def _by_listening(remote: Remote, connection: Connection) -> Rung:
    """CONFIG is not allowed: does anything come while the server counts changes?"""
    with remote.connect() as other:
        before, deadline = _changes(other), time.monotonic() + _PROBE_S
        heard, changes = 0, 0
        while time.monotonic() < deadline and not heard:
            heard += len(connection.receive_ready(0.1))
            changes = _changes(other) - before
    if heard:
        return Rung("keyspace", None, certain=False, patterns=(EVENTS, SPACES))
    if changes > 0:
        why = f"none came while the server counted {changes} changes: notify-keyspace-events has to be AE"
        return Rung("keyspace", why)
    return Rung("keyspace", None, certain=False, patterns=(EVENTS, SPACES))


def _changes(connection: Connection) -> int:
    text = connection.ask("INFO", "persistence").decode("utf-8", "replace")
    return int(parse_info(text).get("rdb_changes_since_last_save", "0"))
