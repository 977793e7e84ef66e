"""Whether an engine lives that does not answer as it should, and what can be done about a script that runs on and on.

Used by engine.admin, on a wire of its own for each node: the one for facts may be stuck.
"""

from __future__ import annotations

import asyncio

from libvalkey import ReplyError

from cachekeep.domain.world import WorldError
from cachekeep.engine.resp import ask
from cachekeep.engine.wire import DroppedError, Wire


async def ping(wire: Wire, timeout_s: float) -> str | None:
    """See EngineAdmin.ping. An engine that takes the connection and drops it lives, too: it has too many clients."""
    try:
        async with asyncio.timeout(timeout_s):
            reply = (await ask(wire, ("ROLE",)))[0]
    except TimeoutError as error:
        raise WorldError(f"{wire.address} did not answer ROLE within {timeout_s:g} s") from error
    except DroppedError:
        return None
    if isinstance(reply, ReplyError):
        if str(reply).startswith("BUSY"):
            raise WorldError(f"{wire.address} runs a script and answers nobody: {reply}")
        if str(reply).startswith(("NOAUTH", "NOPERM")):
            raise WorldError(f"{wire.address} lets nobody in, not even the service: {reply}")
        return None
    return str(reply[0]) if isinstance(reply, list) and reply else None


async def interrupt(wire: Wire) -> None:
    """See EngineAdmin.interrupt. A script and a function are ended by commands of their own; engines before 7 have
    no functions."""
    replies = await ask(wire, ("SCRIPT", "KILL"), ("FUNCTION", "KILL"))
    errors = [str(reply) for reply in replies if isinstance(reply, ReplyError)]
    for error in errors:
        if error.startswith(("UNKILLABLE", "NOPERM", "NOAUTH", "LOADING")):
            raise WorldError(f"{wire.address} cannot end what runs there: {error}")
    if len(errors) == len(replies) and not any(error.startswith("NOTBUSY") for error in errors):
        raise WorldError(f"{wire.address} cannot end what runs there: {'; '.join(errors)}")
