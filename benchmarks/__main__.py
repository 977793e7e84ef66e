"""`python -m benchmarks [--only NAME] [--keys N] [--soak SECONDS] [--rounds N] [--json]`: run them, print measured
against target.

The exit code is 0 when everything could be measured, whether or not a target was met: that is for a reader who
sees the machine and its load. It is 1 when something could not be measured, 130 when the run was stopped.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks import (
    api,
    backup,
    creation,
    elastic,
    endpoint,
    failover,
    fleet,
    follow,
    iam,
    monitoring,
    report,
    snapshots,
    tls,
    users,
)
from benchmarks.figure import Figure, Verdict, failed
from benchmarks.installation import BenchmarkError, Installation, installation
from benchmarks.machine import this_machine

Measure = Callable[[Installation], list[Figure]]

# In this order: the fleet comes last, because it stays.
BENCHMARKS: Mapping[str, Measure] = {
    "create": creation.measure,
    "endpoint": endpoint.measure,
    "tls": tls.measure,
    "api": api.measure,
    "iam": iam.measure,
    "fleet": fleet.measure,
}
DEADLINE_S = 360
# Without an installation, and before the others: the fleet stays and would be in its way.
BACKUP, BACKUP_DEADLINE_S = "backup", 900
FOLLOW, FOLLOW_DEADLINE_S, SOAK_ROUNDS = "follow", 900, 2
# With installations of their own.
FAILOVER, FAILOVER_DEADLINE_S = "failover", 900
ELASTIC, ELASTIC_DEADLINE_S = "elastic", 600
MONITORING, MONITORING_DEADLINE_S = "monitoring", 600
SNAPSHOTS, SNAPSHOTS_DEADLINE_S = "snapshots", 600
USERS, USERS_DEADLINE_S = "users", 400


class OutOfTime(Exception):
    """The run as a whole takes too long. Not a TimeoutError: nobody on the way up is to take it for his own."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what Cachekeep promises.")
    parser.add_argument(
        "--only",
        choices=[BACKUP, FOLLOW, FAILOVER, ELASTIC, MONITORING, SNAPSHOTS, USERS, *BENCHMARKS],
        action="append",
        help="may be given several times",
    )
    parser.add_argument(
        "--keys", type=_keys, default=backup.KEYS, metavar="N", help=f"for `{BACKUP}`; {backup.KEYS:,} unless given"
    )
    parser.add_argument(
        "--soak", type=int, default=0, metavar="SECONDS", help=f"for `{FOLLOW}`: churn of every kind for so long, twice"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=failover.ROUNDS,
        metavar="N",
        help=f"for `{FAILOVER}`; {failover.ROUNDS} unless given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    before, begin = this_machine(), time.perf_counter()
    try:
        figures = _backup(options.keys) if not options.only or BACKUP in options.only else []
        figures += _follow(options.soak) if not options.only or FOLLOW in options.only else []
        figures += _failover(options.rounds) if not options.only or FAILOVER in options.only else []
        figures += _elastic() if not options.only or ELASTIC in options.only else []
        figures += _monitoring() if not options.only or MONITORING in options.only else []
        figures += _snapshots() if not options.only or SNAPSHOTS in options.only else []
        figures += _users() if not options.only or USERS in options.only else []
        if names := [name for name in BENCHMARKS if not options.only or name in options.only]:
            figures += _run(names)
    except KeyboardInterrupt:
        print("stopped; nothing is left running", file=sys.stderr)
        return 130
    after, wall_s = this_machine(), time.perf_counter() - begin
    if options.json:
        print(report.as_json(figures, before, after, wall_s))
    else:
        report.as_table(figures, before, after, wall_s)
    return 1 if any(it.verdict is Verdict.FAILED for it in figures) else 0


def _backup(keys: int) -> list[Figure]:
    return _as_they_come(BACKUP, BACKUP_DEADLINE_S, backup.measure(keys))


def _follow(soak_s: int) -> list[Figure]:
    return _as_they_come(FOLLOW, FOLLOW_DEADLINE_S + SOAK_ROUNDS * soak_s, follow.measure(soak_s))


def _failover(rounds: int) -> list[Figure]:
    return _as_they_come(FAILOVER, FAILOVER_DEADLINE_S, failover.measure(rounds))


def _elastic() -> list[Figure]:
    return _as_they_come(ELASTIC, ELASTIC_DEADLINE_S, elastic.measure())


def _monitoring() -> list[Figure]:
    return _as_they_come(MONITORING, MONITORING_DEADLINE_S, monitoring.measure())


def _snapshots() -> list[Figure]:
    return _as_they_come(SNAPSHOTS, SNAPSHOTS_DEADLINE_S, snapshots.measure())


def _users() -> list[Figure]:
    return _as_they_come(USERS, USERS_DEADLINE_S, users.measure())


def _as_they_come(name: str, deadline_s: int, measured: Generator[Figure, None, None]) -> list[Figure]:
    figures: list[Figure] = []
    try:
        with _within(deadline_s), closing(measured):
            figures.extend(measured)
    except OutOfTime as error:
        figures.append(failed(f"the rest of {name}", str(error)))
    return figures


def _run(names: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    with installation() as it:
        try:
            with _within(DEADLINE_S):
                for name in names:
                    print(f"measuring: {name} ...", file=sys.stderr, flush=True)
                    figures += _measured(name, it)
        except OutOfTime as error:
            figures.append(failed("the rest", str(error)))
    return figures


@contextmanager
def _within(deadline_s: int) -> Iterator[None]:
    """Raises OutOfTime in the block when it takes longer; what follows it is clearing up."""

    def out_of_time(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"out of time: this takes at most {deadline_s} s")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(deadline_s)
    try:
        yield
    finally:
        signal.alarm(0)


def _measured(name: str, it: Installation) -> list[Figure]:
    """One benchmark failing is no reason to miss the others."""
    try:
        return BENCHMARKS[name](it)
    except (BenchmarkError, BotoCoreError, ClientError, OSError, subprocess.SubprocessError) as error:
        return [failed(name, str(error))]


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: with everything taken down."""
    raise KeyboardInterrupt


def _keys(text: str) -> int:
    keys = int(text)
    if keys < backup.FEWEST_KEYS:
        raise argparse.ArgumentTypeError(f"fewer than {backup.FEWEST_KEYS:,} keys are copied before anything is seen")
    return keys


if __name__ == "__main__":
    sys.exit(main())
