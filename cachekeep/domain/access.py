"""The service's own user in the engines that it runs: name, passwords, and what is written of them where. Pure.

An engine is told digests only, of two passwords of one user:

- the installation's, which the service itself logs in with. No engine ever has it in plain text.
- the link's, with which nodes log in to one another (replication, slot migration). Engines must have it in plain text
  (`masterauth`), and whoever may say CONFIG GET reads it there. So it opens only the nodes that share its scope: it is
  derived from the installation's password and the scope's name, which no other group has.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

SERVICE_USER = "cachekeep"
MARKER = "cachekeep.acl."
_DIGITS = 12
# For each user, its name and the words of ACL SETUSER.
Rules = tuple[tuple[str, ...], ...]
OPEN_DEFAULT = ("reset", "on", "nopass", "~*", "&*", "+@all")


@dataclass(frozen=True)
class EngineLogin:
    """The service's own user. password: the installation's; it is never part of a text."""

    password: str = field(repr=False)
    username: str = SERVICE_USER

    def link_password(self, scope: str) -> str:
        """What nodes of this scope log in to one another with: 64 hex digits."""
        return hmac.new(self.password.encode(), b"link " + scope.encode(), hashlib.sha256).hexdigest()

    def rules(self, scope: str) -> tuple[str, ...]:
        """The user as ACL SETUSER takes it, behind its name; the link's password only where there is a scope."""
        passwords = [self.password, self.link_password(scope)] if scope else [self.password]
        return ("reset", "on", *(f"#{password_digest(p)}" for p in passwords), "~*", "&*", "+@all")


def password_digest(password: str) -> str:
    """SHA-256 in hex, as ACL rules have it behind `#`."""
    return hashlib.sha256(password.encode()).hexdigest()


# All nodes of a group have the same users, a hundred perhaps.
@lru_cache(maxsize=128)
def acl_digest(link: str, users: Rules) -> str:
    """Names a wanted state of a node's users in 12 hex digits. The user `cachekeep.acl.DIGEST`, off and without rights,
    is set last: an engine that has it has all of that state."""
    text = "\n".join([link, *(" ".join(words) for words in users)])
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def acl_seen(names: Iterable[str]) -> str:
    """The digest that the names of an engine's users tell; "" for none."""
    return next((name.removeprefix(MARKER) for name in names if name.startswith(MARKER)), "")


def is_reserved(name: str) -> bool:
    """A user name that only the service may have, such as the one that latched nodes give (engine.facts)."""
    return name == SERVICE_USER or name.startswith((f"{SERVICE_USER}.", f"{SERVICE_USER}-"))


@lru_cache(maxsize=1024)
def lost_rights(before: str, after: str) -> bool:
    """Whether a user may do less after than before: lines of ACL LIST, `user ann on #... ~* &* +@all`, or the words
    that it was told, where a later one may take back what an earlier one gave.

    True when in doubt: only what is plainly more lets a connection live on.
    """
    old, new = _parts(before), _parts(after)
    if "on" not in old.flags:
        return False  # nobody could log in
    if "on" not in new.flags or ("nopass" in old.flags and "nopass" not in new.flags):
        return True
    if not (old.passwords or "nopass" in old.flags) and (new.passwords or "nopass" in new.flags):
        return True  # it was let in by a token, which is no good any more
    if "nopass" not in new.flags and not old.passwords <= new.passwords:
        return True
    if ("~*" not in new.keys and not old.keys <= new.keys) or (
        "&*" not in new.channels and not old.channels <= new.channels
    ):
        return True
    return not _grants_more(old.commands, new.commands)


def _grants_more(old: Sequence[str], new: Sequence[str]) -> bool:
    """All of the old words in their order, and between them what only gives."""
    left = list(old)
    for word in new:
        if left and word == left[0]:
            left.pop(0)
        elif not word.startswith("+"):
            return False
    return not left


@dataclass
class _Parts:
    """commands: in their order; what is allowed depends on it. Selectors are left as they are, among them."""

    flags: set[str] = field(default_factory=set)
    passwords: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    commands: list[str] = field(default_factory=list)


def _parts(line: str) -> _Parts:
    parts = _Parts()
    root, bracket, selectors = line.partition(" (")
    for word in root.split()[2:]:
        if word == "resetkeys":
            parts.keys.clear()
        elif word == "resetchannels":
            parts.channels.clear()
        elif word.startswith("#"):
            parts.passwords.add(word)
        elif word.startswith(("~", "%")):
            parts.keys.add(word)
        elif word.startswith("&"):
            parts.channels.add(word)
        elif word.startswith(("+", "-")):
            parts.commands.append(word)
        else:
            parts.flags.add(word)
    if bracket:
        # Not a word with a plus: another selector is not plainly more.
        parts.commands.append("(" + selectors)
    return parts
