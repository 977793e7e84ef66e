"""Implements domain.notifications.Delivery: by the channel of the subscription, each with threads of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import assert_never

from cachekeep.domain.alarms import Channel, Subscription
from cachekeep.domain.notifications import Notice, Smtp
from cachekeep.domain.ports import WorldError
from cachekeep.notify import command, email, webhook

# Commands and mails at a time: what hangs keeps others of its own kind waiting only.
THREADS = 4


class Deliveries:
    """smtp: None where no mail server is set. webhook_s, command_s: deadlines."""

    def __init__(
        self,
        smtp: Smtp | None,
        now: Callable[[], float],
        *,
        webhook_s: float = webhook.DEADLINE_S,
        command_s: float = command.DEADLINE_S,
    ) -> None:
        self._smtp = smtp
        self._now = now
        self._webhook_s = webhook_s
        self._command_s = command_s
        self._stopped = threading.Event()
        self._mails = asyncio.Semaphore(THREADS)
        self._commands = ThreadPoolExecutor(THREADS, "command")

    async def deliver(self, subscription: Subscription, notice: Notice) -> None:
        loop = asyncio.get_running_loop()
        match subscription.channel:
            case Channel.WEBHOOK:
                await webhook.post(subscription, notice, self._now(), self._webhook_s)
            case Channel.EMAIL:
                if self._smtp is None:
                    raise WorldError("no mail server is set; set smtp_url, then restart the service")
                await self._mail(self._smtp, subscription, notice)
            case Channel.COMMAND:
                stopped = self._stopped.is_set
                await loop.run_in_executor(self._commands, command.run, subscription, notice, self._command_s, stopped)
            case _:
                assert_never(subscription.channel)

    async def _mail(self, smtp: Smtp, subscription: Subscription, notice: Notice) -> None:
        """In a daemon's thread: a mail server that hangs must not hold up the end of the service, and the threads of
        an executor are waited for then."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            self._mails.release()
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def send() -> None:
            error: Exception | None = None
            try:
                email.send(smtp, subscription, notice)
            except Exception as problem:  # noqa: BLE001 - whoever waits gets it
                error = problem
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, error)

        await self._mails.acquire()
        threading.Thread(target=send, name="mail", daemon=True).start()
        await done

    def close(self) -> None:
        """Commands that run are killed; a mail on its way is not waited for."""
        self._stopped.set()
        self._commands.shutdown(wait=True, cancel_futures=True)
