"""Whom notices are brought to in tests: a real HTTP server, and the names that the tests share."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cachekeep.domain.notifications import Notice

REGION, ACCOUNT = "eu-west-1", "000000000000"
ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:ops"
NOTICE = Notice("id-1", ARN, 1_795_428_000.5, 'ALARM: "hot"', '{"AlarmName": "hot"}', "hot")
SECRET = "a-signing-secret"
Eventually = Callable[..., Awaitable[object]]


class Clock:
    def now(self) -> float:
        return 1_795_428_000.0


class Web:
    """A real HTTP server. statuses: what it answers, the last one for ever; hangs: it never answers."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses = [200]
        self.released = threading.Event()
        self.released.set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                web.released.wait(20)
                status = web.statuses.pop(0) if len(web.statuses) > 1 else web.statuses[0]
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Location", web.url + "/elsewhere")
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def speak_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
