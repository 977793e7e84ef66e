"""The bodies of signed pages: an object of JSON, whatever else comes."""

from __future__ import annotations

import pytest

from cachekeep.api.pages import json_body
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.domain.faults import Fault


def body(text: bytes) -> object:
    return json_body(HttpRequest("POST", "/_cachekeep/topics", "", [], text))


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"{", b"[]", b"\xff", b"7"])
def test_what_is_no_object_of_json_is_the_callers_fault(text: bytes) -> None:
    with pytest.raises(Fault, match="must be a JSON object") as fault:
        body(text)
    assert fault.value.status == 400


def test_an_object_is_taken_and_no_body_is_an_empty_one() -> None:
    assert body(b'{"action": "add"}') == {"action": "add"}
    assert body(b"") == {}
