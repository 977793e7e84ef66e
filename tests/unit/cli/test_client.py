"""What the command line makes of a service that hangs, or that is older than the command."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cachekeep.cli import client
from cachekeep.cli.client import Client
from cachekeep.cli.refusal import SERVICE_DOWN, Refused, RefusedByService
from cachekeep.credentials import AccessKey

ASK: list[Callable[[Client], object]] = [
    lambda asked: asked.status(),
    lambda asked: asked.page("cost", "tell what the caches cost"),
    lambda asked: asked.topics(),
    lambda asked: asked.change("watch", {"action": "remove"}, "remove prod"),
]


def client_of(port: int) -> Client:
    return Client(f"http://127.0.0.1:{port}", AccessKey("AKCK", "secret"), "us-east-1")


class OlderService(BaseHTTPRequestHandler):
    """Answers as Starlette does where it has no such route, and where a route takes no POST."""

    def do_GET(self) -> None:
        self._refuse(404, b"Not Found")

    def do_POST(self) -> None:
        self._refuse(405, b"Method Not Allowed")

    def _refuse(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def older() -> Iterator[Client]:
    with HTTPServer(("127.0.0.1", 0), OlderService) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield client_of(server.server_port)
        server.shutdown()
        thread.join()


class Refusing(OlderService):
    """Answers with the status that the page's name is."""

    def do_POST(self) -> None:
        self._refuse(int(self.path.rpartition("/")[2]), b'{"code": "C", "message": "no"}')


@pytest.mark.parametrize(("status", "wish_was_wrong"), [(400, True), (404, True), (500, False), (503, False)])
def test_a_wish_that_is_wrong_and_a_service_in_trouble_are_two_things(status: int, wish_was_wrong: bool) -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with pytest.raises(Refused, match="refused to try: C: no") as refused:
            client_of(server.server_port).change(str(status), {}, "try")
        server.shutdown()
        thread.join()
    assert isinstance(refused.value, RefusedByService) is wish_was_wrong


@pytest.mark.parametrize("ask", ASK)
def test_a_service_that_hangs_counts_as_down(ask: Callable[[Client], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Refused, match="does not answer: timed out") as refused,
    ):
        ask(client_of(silent.getsockname()[1]))
    assert refused.value.code == SERVICE_DOWN


@pytest.mark.parametrize("ask", ASK)
def test_an_older_service_is_said_to_be_older(ask: Callable[[Client], object], older: Client) -> None:
    with pytest.raises(Refused, match=r"the service that runs is older and cannot .*: `cachekeep down`") as refused:
        ask(older)
    assert refused.value.code == 1
