"""`python -m tests.chaos [--seed N] [--seconds S] [--groups N] [--reckless]`: exit code 1 when anything is wrong."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.conftest import _locked_range as locked_range

from . import report
from .run import Plan, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="drawn, and printed, unless given")
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long things happen; 120 unless given")
    parser.add_argument("--groups", type=int, default=2, choices=range(1, 5), help="2 unless given")
    parser.add_argument("--reckless", action="store_true", help="also kill where nobody else has the data")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"chaos: seed {seed}, {options.seconds:g} s, {options.groups} groups", flush=True)
    with tempfile.TemporaryDirectory(prefix="cachekeep-chaos-") as folder, locked_range() as network:
        outcome = run(Plan(seed, options.seconds, options.groups, options.reckless), Path(folder), network)
    for line in report.lines(outcome, seed):
        print(line)
    if not outcome.wrong:
        return 0
    log = Path(tempfile.gettempdir()) / f"cachekeep-chaos-{seed}.log"
    log.write_text(outcome.log)
    print(f"the whole log of the service: {log}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
