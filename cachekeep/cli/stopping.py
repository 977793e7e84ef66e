"""Stopping every engine so that the next start finds the data. Called by down; the service does not run meanwhile.

The next start loads what each shard's primary of record saved in an orderly stop, and fills replicas from it
(plan.shard). So: the primaries of record save; replicas and the second instances of an upgrade just end, before them,
so that nobody waits for them to catch up and, in cluster mode, nobody is voted into a place that only looks empty. An
engine that alone holds data which the next start would not load is left running. In cluster mode what a primary knows
of its cluster stays in its folder, so that it comes back as the owner of its slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from signal import SIGKILL

from cachekeep.cli.engines import LOADING_DEADLINE_S, RunningNode, facts_of
from cachekeep.domain.nodes import NodeKey, ProgramKind, Role
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access
from cachekeep.engine.admin import Admin
from cachekeep.host.exits import hold
from cachekeep.host.local import LocalHost

GRACE_S = 5.0
# A node saves with one core and the disk; more at a time do not end sooner.
_SAVING_AT_ONCE = 4


@dataclass(frozen=True)
class StopPlan:
    """plain: hold nothing that only they have; stopped first. saving: saved and stopped. kept: why each runs on."""

    plain: tuple[RunningNode, ...] = ()
    saving: tuple[RunningNode, ...] = ()
    kept: tuple[tuple[RunningNode, str], ...] = ()


@dataclass
class Stopped:
    """What came of it. failures: sentences; the engines that they name run on."""

    saved: list[NodeKey] = field(default_factory=list)
    plain: list[NodeKey] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def plan_stop(nodes: Sequence[RunningNode], primary_of: Mapping[NodeKey, NodeKey]) -> StopPlan:
    """What may be stopped how. nodes: with facts. primary_of: see primaries_of_record. Pure."""
    plain: list[RunningNode] = []
    saving: list[RunningNode] = []
    kept: list[tuple[RunningNode, str]] = []
    shards: dict[NodeKey, list[RunningNode]] = {}
    for node in nodes:
        if node.program is not ProgramKind.ENGINE or not node.engine.speaks_resp:
            plain.append(node)
        else:
            shards.setdefault(primary_of.get(node.key, node.key), []).append(node)
    for primary_key, members in shards.items():
        primary = next((m for m in members if m.key == primary_key), None)
        if primary is not None and primary.facts is not None and primary.facts.role is Role.PRIMARY:
            saving.append(primary)
            plain += [m for m in members if m is not primary]
            continue
        for member in members:
            reason = _why_kept(member, primary_key)
            if reason is None:
                plain.append(member)
            else:
                kept.append((member, reason))
    return StopPlan(tuple(plain), tuple(saving), tuple(kept))


def _why_kept(member: RunningNode, primary_key: NodeKey) -> str | None:
    """None for a member without keys of a shard whose primary of record is not there to save them."""
    if member.facts is None:
        return "it does not answer, so its data cannot be saved"
    if not member.facts.keys:
        return None
    return (
        f"it holds {member.facts.keys} keys and {primary_key} is not the primary now: "
        "run `cachekeep up`, so that the failover is completed, and `cachekeep down` again"
    )


async def stop_all(
    host: LocalHost,
    nodes: Sequence[RunningNode],
    primary_of: Mapping[NodeKey, NodeKey],
    *,
    save: bool,
    told: Callable[[str], None],
    access: Access = OPEN,
) -> Stopped:
    """Stop the nodes, and what runs below the root for no node. save False: without saving, whatever they hold.

    told: hears of what takes long.
    """
    result = Stopped()
    admin = Admin(access)
    try:
        if save:
            looked = await asyncio.gather(*(_with_facts(admin, node) for node in nodes))
            plan = plan_stop(looked, primary_of)
        else:
            plan = StopPlan(plain=tuple(nodes))
        result.failures += [f"{node.key} (pid {node.process.pid}) runs on: {why}" for node, why in plan.kept]
        await asyncio.gather(*(_stop(host, node, result) for node in plan.plain))
        if plan.saving:
            told(f"saving the data of {len(plan.saving)} {'node' if len(plan.saving) == 1 else 'nodes'}")
        limit = asyncio.Semaphore(_SAVING_AT_ONCE)
        await asyncio.gather(*(_save_and_stop(host, admin, node, result, limit) for node in plan.saving))
        await _end_strays(host, result)
    finally:
        await admin.close()
        host.close()
    return result


async def _with_facts(admin: Admin, node: RunningNode) -> RunningNode:
    return replace(node, facts=await facts_of(admin, node, LOADING_DEADLINE_S))


async def _stop(host: LocalHost, node: RunningNode, result: Stopped) -> None:
    try:
        await host.stop(node.key, grace_s=GRACE_S)
        result.plain.append(node.key)
    except WorldError as error:
        result.failures.append(f"{node.key} runs on: {error}")


async def _save_and_stop(
    host: LocalHost, admin: Admin, node: RunningNode, result: Stopped, limit: asyncio.Semaphore
) -> None:
    assert node.address is not None  # noqa: S101 - it answered there
    async with limit:
        try:
            # The mark comes first: it counts only with a data file that is newer (host.is_saved).
            host.mark_saved(node.key, True)
            await admin.shutdown_saving(node.address)
            await host.stop(node.key, grace_s=GRACE_S)
        except WorldError as error:
            if host.find(node.key) is not None:
                host.mark_saved(node.key, False)
                result.failures.append(f"{node.key} (pid {node.process.pid}) runs on, its data is not saved: {error}")
                return
        if host.is_saved(node.key):
            result.saved.append(node.key)
        else:
            result.failures.append(f"{node.key} ended without having saved its data; see its engine.log")


async def _end_strays(host: LocalHost, result: Stopped) -> None:
    """Processes of ours that belong to no node any more: the rest of a delete, or their folder is gone."""
    for stray in host.stray_processes():
        handle = hold(stray.process)
        if handle is None:
            continue
        with handle:
            handle.send(SIGKILL)
            if not await handle.wait(GRACE_S):
                result.failures.append(f"process {stray.process.pid} of {stray.node} does not end")
