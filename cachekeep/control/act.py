"""Acting: the steps of a decision, carried out through the ports. Called by control.loop.

A step that fails is no disaster: the next look shows what is there, and the planner decides anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from cachekeep.control.attempts import Attempts
from cachekeep.domain.engine import EngineInstall, with_tls
from cachekeep.domain.nodes import NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.ports import EngineAdmin, EngineCatalogue, Host, WorldError
from cachekeep.domain.steps import (
    AddSlots,
    Advertise,
    Bind,
    CancelMigrations,
    Certify,
    ClusterSwitchOver,
    Configure,
    Follow,
    Forget,
    Latch,
    Meet,
    MigrateSlots,
    MoveSlots,
    Promote,
    Remove,
    Replicate,
    SetUsers,
    Start,
    Step,
    Stop,
    SwitchOver,
    TakeOver,
)

log = structlog.get_logger()

GRACE_S = 5.0


@dataclass(frozen=True)
class Failure:
    """A step that the world refused, and its words."""

    step: Step
    key: NodeKey
    reason: str


class Actor:
    """Carries out steps. wake: called with a node's key when something that went on in the background has ended."""

    def __init__(
        self,
        host: Host,
        admin: EngineAdmin,
        catalogue: EngineCatalogue,
        attempts: Attempts,
        wake: Callable[[NodeKey], None],
    ) -> None:
        self._host = host
        self._admin = admin
        self._catalogue = catalogue
        self._attempts = attempts
        self._wake = wake
        # Moving slots takes about a second: a death meanwhile must not have to wait for it.
        self._moving: dict[NodeKey, asyncio.Task[None]] = {}
        self._moves_failed: list[Failure] = []

    async def close(self) -> None:
        """Break off what goes on in the background; it is taken up where it was left."""
        moving = list(self._moving.values())
        for task in moving:
            task.cancel()
        await asyncio.gather(*moving, return_exceptions=True)

    async def run(self, stages: tuple[tuple[Step, ...], ...], nodes: Collection[NodeKey] = ()) -> list[Failure]:
        """What did not go through. Stops after the first stage in which something did not.

        nodes: those of the resource; what went wrong with them in the background since is told now.
        """
        late = [failure for failure in self._moves_failed if failure.key in nodes]
        self._moves_failed = [failure for failure in self._moves_failed if failure.key not in nodes]
        for stage in stages:
            results = await asyncio.gather(*(self._try(step) for step in stage))
            failures = [failure for failure in results if failure is not None]
            if failures:
                return late + failures
        return late

    async def _try(self, step: Step) -> Failure | None:
        key = step.spec.key if isinstance(step, Start) else step.key
        try:
            await self._do(step)
        except (WorldError, ValueError) as error:
            # ValueError: a configuration that cannot be written safely.
            log.warning("step failed", step=type(step).__name__, node=str(key), reason=str(error))
            if isinstance(step, Start):
                self._attempts.failed(key, (str(error),))
            elif isinstance(step, (SwitchOver, ClusterSwitchOver)):
                self._attempts.switched(_successor(step), done=False)
            return Failure(step, key, str(error))
        log.info("step", step=type(step).__name__, node=str(key))
        return None

    async def _do(self, step: Step) -> None:
        match step:
            case Start():
                await self._start(step)
            case Stop():
                await self._stop(step)
            case Remove(key):
                self._attempts.forget(key)
                await self._host.remove(key)
            case Follow(_, address, primary):
                await self._admin.follow(address, primary)
            case Promote(_, address):
                await self._admin.promote(address)
            case Bind(_, address, hosts, given_up):
                await self._admin.bind(address, hosts, given_up)
            case Configure(key, address, values):
                begins = self._host.note_keeping(key, values, done=False)
                await self._admin.configure(address, values)
                self._host.note_keeping(key, values, done=True)
                if begins and values.get("save"):
                    await self._admin.save_soon(address)
            case Latch(_, address, on):
                await self._admin.latch(address, on=on)
            case Certify(_, spec):
                # Of this moment: one that is fresh enough stays.
                await asyncio.to_thread(self._host.renew, spec, time.time())
            case SetUsers(_, address, link, users):
                await self._admin.set_users(address, link, users)
            case Advertise(key, members, version):
                self._host.advertise(key, version, members)
            case SwitchOver(_, address, _, successor, binds, successor_binds, given_up):
                await self._admin.switch_over(address, successor, binds, successor_binds, given_up)
                self._attempts.switched(_successor(step), done=True)
            case ClusterSwitchOver(_, address):
                await self._admin.cluster_switch_over(address)
                self._attempts.switched(_successor(step), done=True)
            case _:
                await self._do_in_cluster(step)

    async def _do_in_cluster(self, step: Step) -> None:
        match step:
            case Meet(_, address, peer):
                await self._admin.meet(address, peer)
            case Forget(_, address, node_id):
                await self._admin.forget_node(address, node_id)
            case AddSlots(_, address, slots, epoch):
                await self._admin.add_slots(address, slots, epoch)
            case Replicate(_, address, primary_id):
                await self._admin.replicate(address, primary_id)
            case TakeOver(_, address, vote):
                await self._admin.take_over(address, vote=vote)
            case MigrateSlots(_, address, slots, target_id):
                await self._admin.migrate_slots(address, slots, target_id)
            case CancelMigrations(_, address):
                await self._admin.cancel_migrations(address)
            case MoveSlots():
                self._move(step)
            case _:
                raise TypeError(f"not a step: {step!r}")

    def _move(self, step: MoveSlots) -> None:
        """In the background, once at a time for each source; the planner asks again when it has ended."""
        if step.key not in self._moving:
            task = asyncio.create_task(self._move_slots(step), name=f"slots of {step.key}")
            self._moving[step.key] = task
            task.add_done_callback(lambda _: self._moved(step.key))

    async def _move_slots(self, step: MoveSlots) -> None:
        try:
            await self._admin.move_slots(
                step.address, step.slots, step.source_id, step.target, step.target_id, step.others
            )
        except WorldError as error:
            log.warning("slots could not be moved", node=str(step.key), reason=str(error))
            self._moves_failed.append(Failure(step, step.key, str(error)))

    def _moved(self, key: NodeKey) -> None:
        self._moving.pop(key, None)
        self._wake(key)

    async def _start(self, step: Start) -> None:
        spec = step.spec
        install = self._install(spec)
        process = await self._host.start(spec, install, keep_data=step.keep_data)
        self._attempts.started(spec.key, process)

    def _install(self, spec: NodeSpec) -> EngineInstall | None:
        if spec.program is not ProgramKind.ENGINE:
            return None
        install = self._catalogue.best(spec.engine, spec.version)
        if spec.transit.encrypted:
            install = with_tls(self._catalogue.installs(), spec.engine, spec.version)
        if install is None:
            raise WorldError(
                f"{spec.engine.label} {spec.version} of {spec.key} is not installed on this machine any more; "
                "install it again (`cachekeep doctor` lists what is there)"
            )
        return install

    async def _stop(self, step: Stop) -> None:
        if step.save:
            # The mark comes first and stays if this fails: it counts only with a data file that is not older, and
            # it goes as soon as the engine is seen to serve. An engine that is slow to save may end after we gave up.
            self._host.mark_saved(step.key, True)
            await self._admin.shutdown_saving(step.address)
        self._attempts.forget(step.key)
        await self._host.stop(step.key, grace_s=0.0 if step.fence else GRACE_S)
        await self._admin.forget(step.address)


def _successor(step: SwitchOver | ClusterSwitchOver) -> NodeKey:
    return step.successor if isinstance(step, SwitchOver) else step.key
