"""Access strings: what is taken, what is refused and in which words, and what each engine version is told."""

from __future__ import annotations

import re

import pytest

from cachekeep.data.acl_commands import acl_commands
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.plan.access_string import check_access_string, rules_of, words_of

COMMANDS = acl_commands()
V62, V70 = EngineVersion((6, 2, 5)), EngineVersion((7, 0, 15))
V91 = EngineVersion((9, 1, 2))


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("on ~* +@all", "6.0"),
        ("off", "6.0"),
        ("ON ALLKEYS ALLCOMMANDS", "6.0"),
        ("on ~app::* -@all +@read", "6.0"),
        ("on ~a &chan:* -@all +get -client|kill +select|0", "6.0"),
        ("on %R~a:* +@all", "7.0"),
        ("on ~a +get (~b +set) ( %W~c +@write )", "7.0"),
    ],
)
def test_least_version_follows_from_the_syntax(text: str, least: str) -> None:
    assert check_access_string(text, COMMANDS).short == least


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("on >secret ~*", ">... is not allowed"),
        ("on #abcdef ~*", "#... is not allowed"),
        ("on <secret", "<... is not allowed"),
        ("on nopass", "'nopass' is not allowed"),
        ("ReSeT on", "'ReSeT' is not allowed"),
        ("on ~* +nosuch", "names no command"),
        ("on ~* +@nosuch", "names no category"),
        ("on ~* +config|get", "is not available to users"),
        ("on ~* +ACL|SETUSER", "is not available to users"),
        ("on ~* (+shutdown)", "is not available to users"),
        ("on ~* what", "no rule of an access string"),
        ("on (~a +get", "brackets"),
        ("on ((~a) +get)", "brackets"),
        ("on ~a\x00b", "no rule"),
        ("on " + "~aaaaaaa " * 1000, "more than 4096"),
    ],
)
def test_what_is_refused_is_named_without_a_secret(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        check_access_string(text, COMMANDS)
    assert "secret" not in str(caught.value)


def test_brackets_are_one_word() -> None:
    assert words_of("on (~a +get)  ( ~b )") == ["on", "(~a +get)", "(~b)"]


def told(text: str, version: EngineVersion, engine: Engine = Engine.VALKEY) -> tuple[str, ...]:
    return rules_of(text, COMMANDS, engine, version)


def test_denials_come_last_and_in_every_selector() -> None:
    root, selector = told("on ~* +@all (+@all ~x)", V91), told("on ~* +@all (+@all ~x)", V91)[-1]
    assert root.index("+@all") < min(root.index("-config"), root.index("-acl|setuser"))
    assert selector.startswith("(~x +@all ")
    assert "-config" in selector.split()


def test_who_is_allowed_nothing_needs_no_denial() -> None:
    assert told("~*", V91) == ("off", "~*")
    assert told("on off on ~a -@all", V91) == ("on", "~a", "-@all")


def test_what_a_version_does_not_know_is_left_out() -> None:
    assert "+hexpire" in told("on ~* +hexpire", V91)
    assert "+hexpire" not in told("on ~* +hexpire", V70, Engine.REDIS)
    assert told("on %R~a ~b (~c +get)", V62, Engine.REDIS) == ("on", "~b")


def test_version_that_cannot_deny_a_subcommand_denies_the_command() -> None:
    rules = told("on ~* +@all -client|kill", V62, Engine.REDIS)
    assert "-client" in rules
    assert not any(rule.startswith("-") and "|" in rule for rule in rules)
    assert rules.index("-acl") < rules.index("+acl|whoami")
    narrow = told("on ~* +@read +acl|whoami +cluster|slots", V62, Engine.REDIS)
    assert {rule for rule in narrow if "|" in rule} == {"+acl|whoami", "+cluster|slots"}


def test_patterns_behind_all_say_nothing_and_are_left_out() -> None:
    assert told("on ~* ~a allkeys resetkeys ~b", V91) == ("on", "~*", "~*", "resetkeys", "~b")
    assert told("on &a &* &b", V91) == ("on", "resetchannels", "&a", "&*")


def test_unknown_newer_versions_are_told_what_the_newest_known_one_is() -> None:
    assert COMMANDS.of(Engine.VALKEY, EngineVersion((11, 0))) == COMMANDS.of(Engine.VALKEY, V91)
    assert COMMANDS.of(Engine.VALKEY, EngineVersion((7, 2))) == COMMANDS.of(Engine.REDIS, V70)
    assert COMMANDS.of(Engine.REDIS, EngineVersion((8, 2))) == COMMANDS.of(Engine.REDIS, V70)
