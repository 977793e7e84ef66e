"""Who may log in: users of user groups, tokens, and nobody; which connections lose a right by a change."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cachekeep.data.acl_commands import acl_commands
from cachekeep.domain.access import acl_digest, acl_seen, lost_rights
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.users import Authentication, User, UserGroup, UserStatus
from cachekeep.plan.users import NO_TOKEN, Entrant, Entrants, entrants_of, link_of, node_users

V91 = EngineVersion((9, 1, 2))


@dataclass(frozen=True)
class Owner:
    """What of a group or a cluster decides."""

    user_group_ids: tuple[str, ...] = ()
    auth_tokens: tuple[str, ...] = ()
    region: str = "us-east-1"


def user(name: str, **more: object) -> User:
    return User("us-east-1", name, name, "redis", "on ~* +@all", Authentication.PASSWORD, ("ab",), **more)  # type: ignore[arg-type]


def entrants(owner: Owner, users: tuple[User, ...] = (), ids: tuple[str, ...] | None = None) -> Entrants:
    named = tuple(u.id for u in users) if ids is None else ids
    groups = {"ug": UserGroup("us-east-1", "ug", "valkey", named)}
    return entrants_of(owner, groups.get, {u.id: u for u in users}.get)  # type: ignore[arg-type]


def names_and_heads(found: Entrants) -> dict[str, tuple[str, ...]]:
    return {name: rules[:4] for name, *rules in node_users(found, acl_commands(), Engine.VALKEY, V91)}  # type: ignore[misc]


def test_nobody_is_asked_where_nothing_guards() -> None:
    assert node_users(entrants(Owner()), acl_commands(), Engine.VALKEY, V91) == ()


def test_users_of_a_group_close_the_default_user() -> None:
    told = names_and_heads(entrants(Owner(("ug",)), (user("ann"), user("bob", status=UserStatus.DELETING))))
    assert {name: tuple(rules) for name, rules in told.items()} == {
        "default": ("reset", "off"),
        "ann": ("reset", "on", "#ab", "~*"),
    }


def test_builtin_default_user_needs_no_password() -> None:
    told = names_and_heads(entrants(Owner(("ug",)), (), ("default",)))
    assert tuple(told["default"][:3]) == ("reset", "on", "nopass")


@pytest.mark.parametrize("found", [entrants(Owner(("gone",))), entrants(Owner(("ug",)))])
def test_user_group_that_is_missing_or_empty_lets_nobody_in(found: Entrants) -> None:
    assert {name: tuple(rules) for name, rules in names_and_heads(found).items()} == {"default": ("reset", "off")}


def test_tokens_are_passwords_of_the_default_user_unless_one_may_do_without() -> None:
    assert tuple(names_and_heads(entrants(Owner((), ("a", "b"))))["default"]) == ("reset", "on", "#a", "#b")
    assert tuple(names_and_heads(entrants(Owner((), (NO_TOKEN, "b"))))["default"])[:3] == ("reset", "on", "nopass")


def test_user_of_iam_has_no_password_that_would_let_it_in() -> None:
    iam = User("us-east-1", "i", "i", "valkey", "on ~* +@all", Authentication.IAM)
    rules = names_and_heads(entrants(Owner(("ug",)), (iam,)))["i"]
    assert tuple(rules) == ("reset", "on", "~*", "+@all")


def test_link_of_a_guarded_group_is_not_that_of_an_open_one() -> None:
    assert link_of("r", "g", Entrants()) != link_of("r", "g", Entrants(True))


def test_digest_names_the_whole_state() -> None:
    states = [("a", ()), ("b", ()), ("a", (("x", "on"),)), ("a", (("x", "on", "~a"),)), ("a", (("x on", "~a"),))]
    assert len({acl_digest(*state) for state in states}) >= 4
    assert acl_seen(["default", f"cachekeep.acl.{acl_digest('a', ())}"]) == acl_digest("a", ())
    assert acl_seen(["default"]) == ""


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ("on #a ~* &* +@all", "on #a ~* &* +@all", False),
        ("on #a ~* &* +@all", "on #a #b ~* &* +@all", False),
        ("on #a #b ~* &* +@all", "on #b ~* &* +@all", True),
        ("on #a ~* &* +@all", "on nopass ~* &* +@all", False),
        ("on nopass ~* &* +@all", "on #a ~* &* +@all", True),
        ("on #a ~* &* +@all", "off #a ~* &* +@all", True),
        ("off #a ~* &* +@all", "on #b ~a &* -@all", False),
        ("on #a ~a -@all +get", "on #a ~a ~b -@all +get", False),
        ("on #a ~a ~b -@all +get", "on #a ~a -@all +get", True),
        ("on #a ~a -@all +get", "on #a ~* -@all +get", False),
        ("on #a ~a &x -@all +get", "on #a ~a -@all +get", True),
        ("on #a ~a -@all +get", "on #a ~a -@all +get +set", False),
        ("on #a ~a -@all +get +set", "on #a ~a -@all +get", True),
        ("on #a ~a +@all", "on #a ~a +@all -flushall", True),
        ("on #a ~a +@all (~b +get)", "on #a ~a +@all", True),
        ("on #a ~a +@all (~b +get)", "on #a ~a +@all (~b +get)", False),
        # The same words, and the later takes back what the earlier gave.
        ("on #a ~* -@all +monitor", "on #a ~* +monitor -@all", True),
        ("on #a ~* resetchannels &x &y +@all", "on #a ~* &x resetchannels &y +@all", True),
        ("on #a ~x ~y +@all", "on #a ~x resetkeys ~y +@all", True),
        ("on #a ~* +@all -keys", "on #a ~* +@all -keys -flushall", True),
        # Let in by a token, which it is to have no more.
        ("on ~* +@all", "on #a ~* +@all", True),
        ("on ~* +@all", "on ~* +@all", False),
    ],
)
def test_connections_are_cut_only_where_something_was_lost(before: str, after: str, lost: bool) -> None:
    assert lost_rights(f"user ann {before}", f"user ann {after}") is lost


def test_who_only_reads_loses_writing_in_every_selector_and_last() -> None:
    open_to_all = Entrants(reads_only=True)
    ((name, *words),) = node_users(open_to_all, acl_commands(), Engine.VALKEY, V91)
    assert (name, words[0], "nopass" in words, words[-1]) == ("default", "reset", True, "-@write")
    ann = Entrant("ann", "on ~* +@all (~b:* +set)", Authentication.NO_PASSWORD)
    told = node_users(Entrants(True, (ann,), reads_only=True), acl_commands(), Engine.VALKEY, V91)
    rules = next(words for words in told if words[0] == "ann")
    assert rules[-1] == "-@write"
    assert next(word for word in rules if word.startswith("(")).endswith(" -@write)")
    assert link_of("r", "g", Entrants(True, (ann,))) == link_of("r", "g", Entrants(True, (ann,), reads_only=True))
