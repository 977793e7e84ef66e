"""Runs one engine and ends with whoever asked for it. A program of its own, started by host.scratch by its path.

    keeper.py FOLDER FOLDER -- PROGRAM ARGUMENT...

Its standard input is a pipe that only the asking process holds open: it closes when that process closes it or ends,
by whatever signal, and then the engine is killed and the folders are removed. The kernel's PR_SET_PDEATHSIG would do
it without a second process, but is tied to the thread that forked, and exists on Linux only. Needs the standard
library only; ends with the engine's exit code (128 + n for signal n).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading


def main(arguments: list[str]) -> int:
    cut = arguments.index("--")
    folders, command = arguments[:cut], arguments[cut + 1 :]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler and not SIG_IGN, which the engine would inherit. Nobody but the pipe ends this.
        signal.signal(number, lambda *_: None)
    engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folders[0])
    left_alone = threading.Event()
    threading.Thread(target=_await_end_of_input, args=(engine, left_alone), daemon=True).start()
    code = engine.wait()
    if left_alone.is_set():
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _await_end_of_input(engine: subprocess.Popen[bytes], left_alone: threading.Event) -> None:
    while os.read(0, 1):
        continue
    left_alone.set()
    engine.kill()


if __name__ == "__main__":
    # Not sys.exit: the thread that reads would hold it up.
    os._exit(main(sys.argv[1:]))
