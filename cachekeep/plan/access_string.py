"""Access strings: what the API takes as the rights of a user, checked, and as the rules of one engine version. Pure.

The syntax is that of ACL SETUSER without passwords. What an engine version does not know is left out of its rules:
a right to a command that is not there is none, and an engine refuses to start over a rule that it cannot read.
Sources: ElastiCache guide, "Role-Based Access Control"; acl.c of Redis 6.2, 7.0 and Valkey 9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from cachekeep.domain.acl_commands import Commands
from cachekeep.domain.engine import Engine, EngineVersion

LONGEST = 4096
_SELECTORS_SINCE = 7
_PATTERN = re.compile(r"(~|%(?:[RW]|RW|WR)~|&)([\x21-\x7e]*)\Z", re.IGNORECASE)
_COMMAND = re.compile(r"[+-]@?[a-zA-Z0-9][a-zA-Z0-9_.|-]*\Z")
_PLAIN = frozenset(
    {"on", "off", "allkeys", "resetkeys", "allchannels", "resetchannels", "allcommands", "nocommands"}
    | {"clearselectors", "sanitize-payload", "skip-sanitize-payload"}
)
_OF_PASSWORDS = (">", "<", "#", "!")
# What Redis 6.2, which cannot take a subcommand away, is given back of the containers that are taken away whole.
_HARMLESS = {
    "acl": ("cat", "genpass", "help", "log", "users", "whoami"),
    "cluster": (
        *("count-failure-reports", "countkeysinslot", "getkeysinslot", "help", "info", "keyslot", "myid", "nodes"),
        *("replicas", "slaves", "slots"),
    ),
}
_HARMLESS_CATEGORIES = frozenset({"admin", "slow", "dangerous"})


@lru_cache(maxsize=4096)
def check_access_string(text: str, commands: Commands) -> EngineVersion:
    """The least engine version that knows all of its syntax. Raises ValueError with a sentence."""
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} characters")
    version = EngineVersion((6, 0))
    for word in words_of(text):
        if word.startswith("("):
            version = EngineVersion((7, 0))
            for inner in word[1:-1].split():
                _check_word(inner, commands)
        else:
            _check_word(word, commands)
            if word.startswith("%"):
                version = EngineVersion((7, 0))
    return version


def words_of(text: str) -> list[str]:
    """The words; a selector `( ... )` is one. Raises ValueError for brackets that do not match."""
    found: list[str] = []
    inside: list[str] | None = None
    for part in text.replace("(", " ( ").replace(")", " ) ").split():
        if part == "(" and inside is None:
            inside = []
        elif part == ")" and inside is not None:
            found.append(f"({' '.join(inside)})")
            inside = None
        elif part in ("(", ")"):
            raise ValueError("the brackets of its selectors do not match")
        elif inside is not None:
            inside.append(part)
        else:
            found.append(part)
    if inside is not None:
        raise ValueError("the brackets of its selectors do not match")
    return found


def _check_word(word: str, commands: Commands) -> None:
    low = word.lower()
    if low in ("reset", "nopass", "resetpass") or word.startswith(_OF_PASSWORDS):
        raise ValueError(f"{_named(word)} is not allowed in it: passwords are parameters of their own")
    if low in _PLAIN or _PATTERN.match(word):
        return
    if not _COMMAND.match(word):
        raise ValueError(f"{_named(word)} is no rule of an access string")
    name = low[1:]
    if name.startswith("@"):
        if name[1:] != "all" and name[1:] not in commands.categories:
            raise ValueError(f"{_named(word)} names no category of commands")
        return
    base = name.partition("|")[0]
    if name not in commands.every and (base == name or base not in commands.every):
        raise ValueError(f"{_named(word)} names no command")
    if word.startswith("+") and (name in commands.restricted or base in commands.restricted):
        raise ValueError(f"the command {name[:40]} is not available to users")


def _named(word: str) -> str:
    """The kind of word only where it may hold a password."""
    return f"{word[0]}..." if word.startswith(_OF_PASSWORDS) else repr(word[:60])


@lru_cache(maxsize=4096)
def rules_of(text: str, commands: Commands, engine: Engine, version: EngineVersion) -> tuple[str, ...]:
    """What ACL SETUSER of that version is to be told, `on` or `off` first, without what no client may have.

    Nothing in it is beyond that version: where it cannot say a denial as narrowly, it denies more.
    """
    words = words_of(text)
    known = commands.of(engine, version)
    root = [word for word in words if not word.startswith("(")]
    switch = next((word.lower() for word in reversed(root) if word.lower() in ("on", "off")), "off")
    rules = [switch, *_part(root, commands, known, version)]
    if version.major >= _SELECTORS_SINCE:
        cleared = max((at for at, word in enumerate(words) if word.lower() == "clearselectors"), default=-1)
        selectors = [word for word in words[cleared + 1 :] if word.startswith("(")]
        rules += [f"({' '.join(_part(word[1:-1].split(), commands, known, version))})" for word in selectors]
    return tuple(rules)


def _part(words: Sequence[str], commands: Commands, known: frozenset[str], version: EngineVersion) -> Iterator[str]:
    """The rules of the root or of one selector."""
    yield from _patterns(words, version)
    narrow = version.major >= _SELECTORS_SINCE
    said = [rule for word in words for rule in _command(word, commands, known, narrow=narrow)]
    yield from said
    if not any(rule.startswith("+") for rule in said):
        return
    if narrow:
        yield from (f"-{name}" for name in commands.restricted if name in known)
        return
    yield from (f"-{name}" for name in commands.restricted if name in known)
    for base, harmless in _HARMLESS.items():
        yield f"-{base}"
        all_of_them = _grants(said, base)
        yield from (rule for name in harmless if (rule := f"+{base}|{name}") in said or all_of_them)


def _patterns(words: Sequence[str], version: EngineVersion) -> Iterator[str]:
    """Keys and channels. An engine refuses a pattern behind one that allows all, which says nothing more anyway; and
    what it gives a new user of channels depends on a parameter, unless it is said."""
    everything = {"~": False, "&": False}
    if any(word.startswith("&") for word in words):
        yield "resetchannels"
    for word in words:
        low = word.lower()
        kind = "&" if low.endswith("channels") or word.startswith("&") else "~"
        if low in ("resetkeys", "resetchannels"):
            everything[kind] = False
            yield low
        elif low in ("allkeys", "allchannels") or word in ("~*", "&*") or low in ("%rw~*", "%wr~*"):
            everything[kind] = True
            yield f"{kind}*"
        elif low in ("sanitize-payload", "skip-sanitize-payload"):
            yield low
        elif (_PATTERN.match(word)) and not everything[kind]:
            if word.startswith("%") and version.major < _SELECTORS_SINCE:
                continue
            yield word


def _command(word: str, commands: Commands, known: frozenset[str], *, narrow: bool) -> Iterator[str]:
    low = word.lower()
    if low in ("allcommands", "nocommands"):
        yield "+@all" if low == "allcommands" else "-@all"
        return
    if not _COMMAND.match(word) or _PATTERN.match(word):
        return
    sign, name = low[0], low[1:]
    base, bar, _ = name.partition("|")
    if name.startswith("@"):
        if name[1:] == "all" or name[1:] in commands.categories:
            yield low
    elif not bar or base not in known:
        if name in known:
            yield low
    elif sign == "-":
        if not narrow:
            yield f"-{base}"
        elif name in known:
            yield low
        elif not _is_container(base, known):
            # A first argument (`-select|1`) can be allowed, but not denied.
            yield f"-{base}"
    elif {base, name}.isdisjoint(commands.restricted) and (name in known or not _is_container(base, known)):
        yield low


def _is_container(base: str, known: frozenset[str]) -> bool:
    return any(name.startswith(f"{base}|") for name in known)


def _grants(rules: Sequence[str], base: str) -> bool:
    """Whether these rules of 6.2 leave the whole command allowed."""
    allowed = False
    for rule in rules:
        name = rule[1:]
        if name in ("@all", base) or (name.startswith("@") and name[1:] in _HARMLESS_CATEGORIES):
            allowed = rule[0] == "+"
    return allowed
