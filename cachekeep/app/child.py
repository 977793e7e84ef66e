"""A process that is given one wish, a line of JSON, and tells of it in such lines.

Used by app.snapshot_worker and app.capture_worker. It ends when its standard input closes, so it ends with the service.
Secrets are in the wish, which nobody else sees.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import msgspec

from cachekeep.domain.snapshot_work import WorkFailed

# So long may a process that is asked to end take to seal, or to remove, what it has half done.
END_S = 10.0
_LINE_LIMIT_BYTES = 16 << 20
_ERROR_BYTES = 2000


@asynccontextmanager
async def child(module: str, wish: bytes) -> AsyncIterator[AsyncIterator[Any]]:
    """What it tells, line by line; after the last one WorkFailed is raised. It has ended when the block has.

    Raises WorkFailed when it cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_LIMIT_BYTES,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkFailed(f"the process for it cannot be started: {error.strerror}", again=True) from error
    complaints = asyncio.create_task(_last_words(process))
    try:
        async with aclosing(_told(process, wish, complaints)) as told:
            yield told
    finally:
        await _end(process)
        complaints.cancel()


async def _told(process: Process, wish: bytes, complaints: asyncio.Task[bytes]) -> AsyncGenerator[Any, None]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("pipes were asked for")
    with suppress(ConnectionError):  # a process that died says why, or does not, below
        process.stdin.write(wish)
        await process.stdin.drain()
    async for line in process.stdout:
        yield msgspec.json.decode(line)
    code = await process.wait()
    words = (await complaints).decode("utf-8", "replace").strip().rpartition("\n")[2]
    raise WorkFailed(f"the process for it ended too soon (exit code {code}) {words}".strip(), again=True)


async def _last_words(process: Process) -> bytes:
    """The end of what it complains of."""
    if process.stderr is None:
        return b""
    kept = b""
    while chunk := await process.stderr.read(4096):
        kept = (kept + chunk)[-_ERROR_BYTES:]
    return kept


async def _end(process: Process) -> None:
    """Close its input, which asks it to end; kill it if it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
