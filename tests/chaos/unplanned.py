"""Unplanned things: engines that die or hang, a service that is killed. Each function does one, and says which."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from .observed import Said, Seen, ask, engines_of
from .world import Group, World

NO_TARGET = "no target"


def kill_primary(world: World, group: Group) -> str:
    return _strike(world, group, signal.SIGKILL, primary=True)


def kill_replica(world: World, group: Group) -> str:
    return _strike(world, group, signal.SIGKILL, primary=False)


def stop_primary(world: World, group: Group) -> str:
    return _strike(world, group, signal.SIGSTOP, primary=True)


def stop_replica(world: World, group: Group) -> str:
    return _strike(world, group, signal.SIGSTOP, primary=False)


def kill_two(world: World, group: Group) -> str:
    """A primary and one of its replicas, at once; another replica is left."""
    shard = _any_shard(world, group)
    primary = next(((seen, said) for seen, said in shard if said and said.primary), None)
    replicas = [seen for seen, said in shard if said and not said.primary]
    if primary is None or not replicas or not (_in_sync(shard) > 1 or world.reckless):
        return NO_TARGET
    seen, said = primary
    world.died(group, f"kill {seen.member} and {replicas[0].member}", said.slots, in_sync=_in_sync(shard) > 1)
    for victim in (seen, replicas[0]):
        _signal(victim.pid, signal.SIGKILL)
    return f"done: {seen.member} and {replicas[0].member}"


def resume(world: World) -> None:
    """Let go on what was stopped, and lives still."""
    for pid in list(world.stopped):
        _signal(pid, signal.SIGCONT)
        del world.stopped[pid]


def kill_service(world: World, group: Group) -> str:
    """It is started again at once, or after up to three seconds."""
    if not world.up:
        return NO_TARGET
    world.service.kill()
    later = world.chance.choice([0.0, 0.0, 1.0, 3.0])
    world.restart_at = time.monotonic() + later
    return f"done: started again after {later:g} s"


def _strike(world: World, group: Group, number: signal.Signals, *, primary: bool) -> str:
    shard = _any_shard(world, group)
    targets = [(seen, said) for seen, said in shard if said and said.primary is primary]
    # Where no other member has the data, everything may be lost, and the oracle could not tell one loss from another.
    safe = _in_sync(shard) > 0
    if not targets or not (safe or world.reckless):
        return NO_TARGET
    seen, said = world.chance.choice(targets)
    verb = "kill" if number == signal.SIGKILL else "stop"
    if primary:
        world.died(group, f"{verb} {seen.member}", said.slots, in_sync=safe)
    elif not safe:
        world.died(group, f"{verb} {seen.member}, with no other in sync", None, in_sync=False)
    _signal(seen.pid, number)
    if number == signal.SIGSTOP:
        world.stopped[seen.pid] = seen.member
    return f"done: {seen.member} ({seen.pid})"


def _in_sync(shard: list[tuple[Seen, Said | None]]) -> int:
    """Replicas that answer, and that a living primary calls in sync."""
    answering = sum(said is not None and not said.primary for _, said in shard)
    return min(answering, max((said.in_sync for _, said in shard if said and said.primary), default=0))


def _any_shard(world: World, group: Group) -> list[tuple[Seen, Said | None]]:
    seen = engines_of(world.service, group.id)
    shards = sorted({it.shard for it in seen})
    if not shards:
        return []
    chosen = world.chance.choice(shards)
    return [(it, ask(it)) for it in seen if it.shard == chosen]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
