"""What a server lets this user do, found out by asking for it in ways that change nothing. Called by backup.survey.

Each command is sent for a key that cannot exist, RESTORE with a payload that cannot be right. A refusal counts only
when it is of the command: of the key (an ACL with key patterns), a redirection, a full memory say that the command
itself is allowed. Observed on Redis 6.2 and 7.0, Valkey 8.1 and 9.1; ElastiCache says "unknown command" to what it
has taken away. What cannot be known counts as allowed: whoever needs it will be told.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from cachekeep.backup.survey_types import Ability
from cachekeep.codec.resp import Word, pack, pack_all
from cachekeep.domain.remote import Connection, Refusal, Remote

# Codes of refusals that come after the question whether the command is allowed, or have nothing to do with it.
_REDIRECTED = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT")
_UNWELL = ("OOM", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN", "BUSY")
_BESIDES = frozenset((*_REDIRECTED, *_UNWELL, "BUSYKEY", "WRONGTYPE"))
_ABSENT = ("unknown command", "unknown subcommand")
_BLOCKED = ("not allowed", "not permitted", "disabled", "not supported", "unsupported", "prohibited", "blocked")
_IN_SUBSCRIPTION = "can't execute"


def probe(remote: Remote) -> Mapping[Ability, str]:
    """The abilities that are denied, each with the reason as a sentence. Raises RemoteError."""
    key = b"cachekeep:probe:" + secrets.token_hex(16).encode()
    asked = list(_questions(key))
    denied: dict[Ability, str] = {}
    with remote.connect() as connection:
        connection.send(pack_all(words for _, words in asked) + pack("UNWATCH"))
        for (ability, _), reply in zip(asked, connection.receive(len(asked) + 1), strict=False):
            if reason := denial(ability, reply):
                denied[ability] = reason
    with remote.connect() as connection:
        if reason := _psync(connection):
            denied[Ability.PSYNC] = reason
    return denied


def _questions(key: bytes) -> Iterator[tuple[Ability, tuple[Word, ...]]]:
    # First, so that the others touch nothing either.
    yield Ability.NO_TOUCH, ("CLIENT", "NO-TOUCH", "ON")
    yield Ability.NO_EVICT, ("CLIENT", "NO-EVICT", "ON")
    yield Ability.DUMP, ("DUMP", key)
    yield Ability.RESTORE, ("RESTORE", key, 0, b"no payload: it has neither a version nor a checksum")
    yield Ability.PEXPIRETIME, ("PEXPIRETIME", key)
    yield Ability.SCRIPTS, ("EVAL", "return 1", 0)
    yield Ability.WATCH, ("WATCH", key)
    yield Ability.FUNCTIONS, ("FUNCTION", "DUMP")
    yield Ability.OBJECT, ("OBJECT", "ENCODING", key)
    yield Ability.MEMORY, ("MEMORY", "USAGE", key)
    yield Ability.TIME, ("TIME",)


def denial(ability: Ability, reply: Any) -> str | None:  # noqa: ANN401  # whatever a server answers
    """Why the reply to a harmless call means that the ability is not there; None when it is."""
    if not isinstance(reply, Refusal) or reply.code in _BESIDES:
        return None
    text, said = str(reply).lower(), _short(reply)
    if any(words in text for words in _ABSENT):
        return f"the server does not know {ability}: it is too old for it, or its operator took it away"
    match reply.code:
        case "NOPERM" if "command" not in text and ("key" in text or "channel" in text):
            return None
        case "NOPERM" | "NOAUTH":
            return f"this user may not run {ability} ({said})"
        case "READONLY":
            return f"the server is a replica and takes no writes ({said})"
    if any(words in text for words in _BLOCKED):
        return f"the server does not allow {ability} ({said})"
    return None


def _psync(connection: Connection) -> str | None:
    """As `denial`, without a synchronisation that begins.

    Without arguments PSYNC is refused for that before the ACL is looked at, unless it is unknown. The ACL comes before
    the rule that subscribers run few commands, so a subscriber's PSYNC is refused either way, and the words tell which.
    """
    ability = Ability.PSYNC
    if reason := denial(ability, _told(connection, "PSYNC")):
        return reason
    name = f"cachekeep:probe:{secrets.token_hex(16)}"
    subscribed = _told(connection, "SUBSCRIBE", name)
    if isinstance(subscribed, list) and subscribed and subscribed[0] == b"subscribe":
        reply = _told(connection, "PSYNC", "?", -1)
        return None if _IN_SUBSCRIPTION in str(reply).lower() else denial(ability, reply)
    user = _told(connection, "ACL", "WHOAMI")
    if not isinstance(user, bytes):
        return None
    verdict = _told(connection, "ACL", "DRYRUN", user, "PSYNC", "?", -1)
    # Words of a refusal, but not as one: "This user has no permissions to run the 'psync' command".
    if isinstance(verdict, bytes) and b"no permissions" in verdict:
        return f"this user may not run {ability} ({_short(verdict.decode('utf-8', 'replace'))})"
    return None


def _told(connection: Connection, *words: Word) -> Any:  # noqa: ANN401
    connection.send(pack(*words))
    return connection.receive(1)[0]


def _short(text: object) -> str:
    # Without the arguments that some repeat: they are of no interest here.
    return str(text).partition(", with args")[0][:200].rstrip(". ")
