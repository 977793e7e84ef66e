"""Webhooks: one signed POST of SNS's notification envelope, TLS verified, no redirects, nothing of the answer kept.

Source of the envelope: SNS developer guide, "Parsing message formats" (HTTP/HTTPS notification JSON).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import SplitResult

from cachekeep.codec.subscriber import web_url
from cachekeep.domain.alarms import Subscription
from cachekeep.domain.notifications import Notice
from cachekeep.domain.ports import WorldError

DEADLINE_S = 10.0
SIGNATURE_HEADER = "X-Cachekeep-Signature"
_LONGEST_LINE = 8192


def envelope(notice: Notice) -> bytes:
    """The body, JSON."""
    moment = datetime.fromtimestamp(notice.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    page = {
        "Type": "Notification",
        "MessageId": notice.id,
        "TopicArn": notice.topic_arn,
        "Subject": notice.subject,
        "Message": notice.message,
        "Timestamp": moment,
    }
    return json.dumps(page).encode()


def signature(secret: str, at: int, body: bytes) -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA256 of `<seconds>.<body>` with the subscription's secret."""
    made = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"


async def post(subscription: Subscription, notice: Notice, now: float, deadline_s: float = DEADLINE_S) -> None:
    """Raises WorldError for anything but an answer of 2xx within the deadline."""
    url = _parts(subscription.endpoint)
    where = f"webhook {url.scheme}://{url.netloc}"
    try:
        async with asyncio.timeout(deadline_s):
            status = await exchange(url, _request(url, subscription, notice, int(now)))
    except TimeoutError:
        raise WorldError(f"{where} did not answer within {deadline_s:g} s") from None
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
        raise WorldError(f"{where} cannot be reached: {error}") from error
    if 300 <= status < 400:
        raise WorldError(f"{where} answered HTTP {status}; redirects are not followed, subscribe the final URL")
    if not 200 <= status < 300:
        raise WorldError(f"{where} answered HTTP {status}")


def _parts(endpoint: str) -> SplitResult:
    """Raises WorldError for what is no plain http(s) URL."""
    url = web_url(endpoint)
    if url is None:
        raise WorldError("the webhook's URL is no http or https URL without a user; subscribe it anew")
    return url


def _request(url: SplitResult, subscription: Subscription, notice: Notice, at: int) -> bytes:
    body = envelope(notice)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {url.netloc}",
        "User-Agent: Cachekeep",
        "Content-Type: application/json; charset=UTF-8",
        f"Content-Length: {len(body)}",
        "x-amz-sns-message-type: Notification",
        f"x-amz-sns-message-id: {notice.id}",
        f"x-amz-sns-topic-arn: {notice.topic_arn}",
        f"{SIGNATURE_HEADER}: {signature(subscription.secret, at, body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def exchange(url: SplitResult, request: bytes) -> int:
    """The status. Of the answer nothing but its first line is read. Raises OSError, ValueError, EOFError,
    LimitOverrunError; the deadline is the caller's."""
    secure = url.scheme == "https"
    context = await asyncio.to_thread(ssl.create_default_context) if secure else None
    port = url.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=context, limit=_LONGEST_LINE)
    try:
        writer.write(request)
        await writer.drain()
        while True:
            status = _status(await reader.readuntil(b"\n"))
            if status >= 200:
                return status
            while (await reader.readuntil(b"\n")).strip():  # an interim answer (100 Continue): its headers
                pass
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def _status(line: bytes) -> int:
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("what answers does not speak HTTP")
    return int(words[1])
