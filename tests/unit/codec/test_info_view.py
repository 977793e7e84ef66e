from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.info import parse_info
from cachekeep.codec.info_view import InfoView, Layout

NAMES = st.text(st.sampled_from("ab#_é|"), max_size=4)
VALUES = st.text(st.sampled_from("ab:#1 é"), max_size=60)
LINES = st.dictionaries(NAMES, VALUES, max_size=8).map(lambda found: [f"{n}:{v}" for n, v in found.items()])
NO_FIELDS = st.lists(st.sampled_from(["", "# Server", "ab"]), max_size=3)
ANSWERS = st.tuples(LINES, NO_FIELDS).flatmap(lambda both: st.permutations([*both[0], *both[1]]))


@given(st.lists(ANSWERS, min_size=1, max_size=5), st.sampled_from(["\r\n", ""]), st.booleans())
def test_view_is_the_mapping_that_parse_info_gives_whatever_answers_came_before(
    answers: Sequence[Sequence[str]], end: str, folded: bool
) -> None:
    layout: Layout = {}
    names = {name for lines in answers for name in parse_info("\r\n".join(lines))} | {"ab:", "b"}
    for lines in answers:
        text = "\r\n".join(lines) + end
        view, whole = InfoView(text.encode(), layout), parse_info(text)
        if folded:
            view.fold()
        assert {name: view.get(name) for name in names} == {name: whole.get(name) for name in names}
        assert dict(view) == whole
        assert len(view) == len(whole)


def test_absent_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        InfoView(b"a:1\r\n")["b"]


def test_a_field_that_moved_to_another_line_is_found_and_remembered() -> None:
    layout: Layout = {}
    assert InfoView(b"a:1\r\nb:2\r\n", layout)["b"] == "2"
    assert layout["b"] == 1
    assert InfoView(b"a:1\r\nbb:7\r\nb:3\r\n", layout)["b"] == "3"
    assert layout["b"] == 2
    assert InfoView(b"b:4", layout)["b"] == "4"


def test_bytes_that_are_no_text_become_the_replacement_character() -> None:
    view = InfoView(b"config_file:/\xff\r\n\xff:1\r\n")
    assert (view["config_file"], view["\ufffd"]) == ("/\ufffd", "1")


def test_a_section_ends_where_the_next_one_begins() -> None:
    view = InfoView(b"# A\r\na:1\r\n\r\n# Keyspace\r\ndb0:keys=1\r\ndb17:keys=2\r\n\r\n# B\r\ndb9:no\r\n")
    assert dict(view.section("Keyspace")) == {"db0": "keys=1", "db17": "keys=2"}
    assert dict(view.section("A")) == {"a": "1"}
    assert list(view.section("C")) == []
