import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.info import parse_info
from cachekeep.codec.info_view import InfoView


@given(st.text(st.sampled_from("ab:#\r\n é"), max_size=80))
def test_view_is_the_mapping_that_parse_info_gives(text: str) -> None:
    view = InfoView(text.encode())
    assert view.get("a") == parse_info(text).get("a")
    assert dict(view) == parse_info(text)
    assert len(view) == len(parse_info(text))


def test_absent_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        InfoView(b"a:1\r\n")["b"]
