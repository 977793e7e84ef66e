"""Where a client says that it comes from does not count: sign-ins are limited by where they do come from."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection
from urllib.parse import urlencode

from cachekeep.web.attempts import FREE_ATTEMPTS

from .conftest import Service


def sign_in(service: Service, number: int) -> tuple[int, str]:
    """One guess, with another key id and another address in the header each time."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=10)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": service.url,
        "X-Forwarded-For": f"10.0.0.{number}",
    }
    form = urlencode({"access_key": f"AKGUESS{number}", "secret_key": "guess"})
    connection.request("POST", "/ui/sign-in", form, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_guesses_are_counted_whatever_address_they_name(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    answers = [sign_in(service, number) for number in range(1, FREE_ATTEMPTS + 3)]
    statuses = [status for status, _ in answers]
    assert statuses[0] != 429, answers[0]
    assert statuses[-1] == 429, statuses
