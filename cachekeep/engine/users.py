"""Makes a running engine's users what is wanted, and cuts the connections that lose by it. Used by engine.admin.

All users change in one transaction (MULTI), so that nobody is let in by half of a state. The marker that proves it
(domain.access.acl_digest) goes first and comes back last: where it is missing, what was done is not known, and then
every connection of a client is cut, since it may be one that should have been.

A state has up to a hundred users with fifty rules each, so what was told last is remembered, and where the marker says
that it is still so, only the difference is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from libvalkey import ReplyError

from cachekeep.domain.access import (
    MARKER,
    OPEN_DEFAULT,
    SERVICE_USER,
    EngineLogin,
    Rules,
    acl_digest,
    lost_rights,
)
from cachekeep.domain.world import WorldError
from cachekeep.engine.resp import Command, ask, must
from cachekeep.engine.wire import Wire

_DEFAULT = "default"


@dataclass(frozen=True)
class Told:
    """What an engine was told last."""

    link: str
    users: Rules

    @property
    def marker(self) -> str:
        return MARKER + acl_digest(self.link, self.users)

    @property
    def all_users(self) -> Rules:
        """`default` is always one of them."""
        return self.users or ((_DEFAULT, *OPEN_DEFAULT),)


async def set_users(wire: Wire, wanted: Told, last: Told | None, login: EngineLogin) -> None:
    """See EngineAdmin.set_users. last: what this engine was told before, as far as is known.

    Raises WorldError; called again, it begins anew.
    """
    names = (await must(wire, ("ACL", "USERS")))[0]
    marks = [name for name in names if name.startswith(MARKER)]
    # While it stood open, clients could make users of their own, which the difference would leave.
    if last is not None and (not last.users or last.marker not in marks or not wire.logged_in):
        last = None
    if last is None or last.link != wanted.link:
        await _set_own(wire, wanted.link, login)
    if last is not None:
        await _set_difference(wire, wanted, last, marks)
    elif wanted.users or marks:
        await _set_all(wire, wanted, names, marks)
    # Else it is open, and was never anything else: what clients may have made of its users is theirs.
    await _together(wire, [("ACL", "SETUSER", wanted.marker, "reset", "off")])


async def _set_all(wire: Wire, wanted: Told, names: Iterable[str], marks: Collection[str]) -> None:
    before = {line.split()[1]: line for line in (await must(wire, ("ACL", "LIST")))[0]}
    users = {name for name, *_ in wanted.all_users}
    gone = [name for name in names if name not in users | {_DEFAULT, SERVICE_USER}]
    await _change(wire, gone, wanted.all_users)
    if not marks:
        await _cut(wire, users if wanted.users else ())
        return
    after = {line.split()[1]: line for line in (await must(wire, ("ACL", "LIST")))[0]}
    await _cut(wire, [name for name in users if name in before and lost_rights(before[name], after[name])])


async def _set_difference(wire: Wire, wanted: Told, last: Told, marks: list[str]) -> None:
    had = {words[0]: words for words in last.all_users}
    have = {words[0]: words for words in wanted.all_users}
    changed = [name for name, words in have.items() if had.get(name) != words]
    gone = [name for name in had if name not in have and name != _DEFAULT]
    await _change(wire, [*marks, *gone], [have[name] for name in changed])
    await _cut(wire, [name for name in changed if name in had and lost_rights(_line(had[name]), _line(have[name]))])


def _line(words: Iterable[str]) -> str:
    """As ACL LIST has a user, as far as matters."""
    return f"user {' '.join(words)}"


async def _change(wire: Wire, gone: Collection[str], users: Iterable[tuple[str, ...]]) -> None:
    commands: list[Command] = [("ACL", "DELUSER", *gone)] if gone else []
    await _together(wire, [*commands, *(("ACL", "SETUSER", *words) for words in users)])


async def _cut(wire: Wire, names: Iterable[str]) -> None:
    """Not this connection, whoever it is. A name without connections is no error that matters."""
    if kills := [("CLIENT", "KILL", "USER", name) for name in sorted(names)]:
        await ask(wire, *kills)


async def _set_own(wire: Wire, link: str, login: EngineLogin) -> None:
    """First of all the service itself: whatever comes next, it gets in, and so do nodes that follow this one.

    Who came in by a link's password that is no good any more may be a client who read it while the node stood open, and
    could do everything for as long as the connection stays. So all are cut; nodes come in again by the new one.
    """
    before = await _line_of(wire, login.username)
    await _together(wire, [("ACL", "SETUSER", login.username, *login.rules(link))])
    user, password = (login.username, login.link_password(link)) if link else ("", "")
    for name, value in (("masteruser", user), ("masterauth", password)):
        reply = (await ask(wire, ("CONFIG", "SET", name, value)))[0]
        if isinstance(reply, ReplyError):
            # Not by `must`, whose text has the command in it.
            raise WorldError(f"{wire.address} refused CONFIG SET {name}: {reply}")
    if before and lost_rights(before, await _line_of(wire, login.username)):
        await _cut(wire, [login.username])


async def _line_of(wire: Wire, name: str) -> str:
    """As ACL LIST has it; "" for no such user."""
    lines = (await must(wire, ("ACL", "LIST")))[0]
    return next((line for line in lines if line.split()[1] == name), "")


async def _together(wire: Wire, commands: list[Command]) -> None:
    """In one transaction. Raises WorldError with the engine's words and the user's name, never with rules."""
    if not commands:
        return
    replies: list[Any] = await ask(wire, ("MULTI",), *commands, ("EXEC",))
    done = replies[-1]
    refused = done if isinstance(done, ReplyError) else None
    for command, reply in zip(commands, [] if refused else done, strict=False):
        if isinstance(reply, ReplyError):
            raise WorldError(f"{wire.address} refused {' '.join(command[:3])}: {_short(reply)}")
    if refused is not None:
        first = next((reply for reply in replies if isinstance(reply, ReplyError)), refused)
        raise WorldError(f"{wire.address} refused to change its users: {_short(first)}")


def _short(reply: ReplyError) -> str:
    """Engines repeat the rule that they do not take, and it may be a digest."""
    text = str(reply)
    head, quoted, _ = text.partition("'")
    return (head if quoted else text)[:120].strip()
