"""Receivers of logs: a real HTTP server that answers as CloudWatch Logs does, or as a Firehose HTTP endpoint."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LogReceiver:
    """fails: while set, every request is answered with 503."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.streams: set[tuple[str, str]] = set()
        self.fails = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, answer = receiver._answer(headers, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.fails.is_set():
            return 503, {"__type": "ServiceUnavailableException", "message": "not now"}
        operation = headers.get("x-amz-target", "").partition(".")[2]
        stream = (body.get("logGroupName", ""), body.get("logStreamName", ""))
        if operation == "CreateLogStream":
            self.streams.add(stream)
        elif operation == "PutLogEvents" and stream not in self.streams:
            return 400, {"__type": "ResourceNotFoundException", "message": "The specified log stream does not exist."}
        self.requests.append((headers, body))
        return 200, {"requestId": body["requestId"]} if "requestId" in body else {}

    def lines(self) -> list[str]:
        """All that arrived, in order."""
        found = []
        for _, body in list(self.requests):
            found += [event["message"] for event in body.get("logEvents", [])]
            found += [base64.b64decode(record["data"]).decode().rstrip("\n") for record in body.get("records", [])]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def log_receiver() -> Iterator[LogReceiver]:
    receiver = LogReceiver()
    try:
        yield receiver
    finally:
        receiver.close()
