"""Log lines by HTTP POST, in the form in which Firehose delivers to an HTTP endpoint.

Source of the form: Amazon Data Firehose developer guide, "HTTP endpoint delivery request and response specifications"
(JSON of requestId, timestamp and base64 records; headers X-Amz-Firehose-*), which many collectors of logs take.
Used by notify.log_destinations.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Sequence

from cachekeep.codec.subscriber import web_url
from cachekeep.domain.log_delivery import LogLine
from cachekeep.domain.log_ports import LogStream, TooMuch
from cachekeep.domain.ports import WorldError
from cachekeep.notify.webhook import exchange

# For all of it: a server that answers a byte at a time is away like one that does not answer.
DEADLINE_S = 10.0
_TOO_LARGE = 413


class FirehoseEndpoint:
    """url: http(s). access_key: sent as X-Amz-Firehose-Access-Key, "" for none."""

    def __init__(self, url: str, account_id: str, access_key: str = "", deadline_s: float = DEADLINE_S) -> None:
        parts = web_url(url)
        if parts is None:
            raise ValueError("the endpoint must be an http or https URL without a user in it")
        self._parts = parts
        self._account_id = account_id
        self._access_key = access_key
        self._deadline_s = deadline_s

    async def post(self, stream: LogStream, lines: Sequence[LogLine]) -> None:
        """One request; redirects are not followed. Raises TooMuch for 413, WorldError for all else but 2xx."""
        number = str(uuid.uuid4())
        records = [{"data": base64.b64encode(f"{line.text}\n".encode()).decode()} for line in lines]
        body = json.dumps({"requestId": number, "timestamp": int(time.time() * 1000), "records": records}).encode()
        where = f"{self._parts.scheme}://{self._parts.netloc}"
        try:
            async with asyncio.timeout(self._deadline_s):
                status = await exchange(self._parts, self._head(stream, number, len(body)) + body)
        except TimeoutError:
            raise WorldError(f"{where} did not answer within {self._deadline_s:g} s") from None
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
            raise WorldError(f"{where} cannot be reached: {str(error)[:200]}") from error
        if status == _TOO_LARGE:
            raise TooMuch(f"{where} answered HTTP {status} to {len(body)} bytes")
        if not 200 <= status < 300:
            raise WorldError(f"{where} answered HTTP {status}")

    def _head(self, stream: LogStream, number: str, length: int) -> bytes:
        name = stream.delivery.destination
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        lines = [
            f"POST {target} HTTP/1.1",
            f"Host: {self._parts.netloc}",
            "User-Agent: Cachekeep",
            "Content-Type: application/json",
            f"Content-Length: {length}",
            "X-Amz-Firehose-Protocol-Version: 1.0",
            f"X-Amz-Firehose-Request-Id: {number}",
            f"X-Amz-Firehose-Source-Arn: arn:aws:firehose:{stream.region}:{self._account_id}:deliverystream/{name}",
            "Connection: close",
        ]
        if self._access_key:
            lines.append(f"X-Amz-Firehose-Access-Key: {self._access_key}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
