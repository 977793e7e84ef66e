"""Commands: a program run without a shell, the notice as JSON on its stdin, a deadline, a bounded answer.

Blocking; called from a thread of notify.deliver.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from cachekeep.domain.alarms import Subscription
from cachekeep.domain.notifications import Notice
from cachekeep.domain.ports import WorldError
from cachekeep.notify.webhook import envelope

log = structlog.get_logger()

DEADLINE_S = 30.0
MOST_OUTPUT_BYTES = 4096
_LOOK_S = 0.2


def run(
    subscription: Subscription,
    notice: Notice,
    deadline_s: float = DEADLINE_S,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Raises WorldError unless the program ends by itself with exit status 0. Its output goes to the log."""
    program = subscription.endpoint
    if not Path(program).is_absolute():
        raise WorldError("the command is no absolute path; subscribe it anew")
    with tempfile.TemporaryFile() as given:
        given.write(envelope(notice))
        given.seek(0)
        try:
            process = subprocess.Popen(
                [program],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(notice),
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise WorldError(f"command {program} cannot be run: {error}") from error
    output, ended = _watch(process, deadline_s, is_stopped)
    log.info("command run", command=program, status=process.returncode, output=output.decode("utf-8", "replace"))
    if not ended:
        raise WorldError(f"command {program} had not ended after {deadline_s:g} s and was killed")
    if process.returncode != 0:
        raise WorldError(f"command {program} ended with status {process.returncode}")


def _environment(notice: Notice) -> dict[str, str]:
    """Nothing of the service's own."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "CACHEKEEP_TOPIC_ARN": notice.topic_arn}


def _watch(process: subprocess.Popen[bytes], deadline_s: float, is_stopped: Callable[[], bool]) -> tuple[bytes, bool]:
    """What it printed, cut, and whether it ended by itself. Its whole group is gone in the end if it did not."""
    output = b""
    deadline = time.monotonic() + deadline_s
    ended = False
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        descriptor = process.stdout.fileno()
        while (left := deadline - time.monotonic()) > 0 and not is_stopped():
            if not select.select([descriptor], [], [], min(left, _LOOK_S))[0]:
                continue
            read = os.read(descriptor, 65536)
            if not read:
                ended = _has_ended(process, deadline, is_stopped)
                break
            output = (output + read)[:MOST_OUTPUT_BYTES]
    finally:
        if not ended:
            # Not waited for yet: the number still is this very process's, even if it has ended.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return output, ended


def _has_ended(process: subprocess.Popen[bytes], deadline: float, is_stopped: Callable[[], bool]) -> bool:
    """It has closed its output; it should end now."""
    while (left := deadline - time.monotonic()) > 0 and not is_stopped():
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(left, _LOOK_S))
            return True
    return False
