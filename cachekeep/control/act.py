"""Acting: the steps of a decision, carried out through the ports. Called by control.loop.

A step that fails is no disaster: the next look shows what is there, and the planner decides anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from cachekeep.control.attempts import Attempts
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.ports import EngineAdmin, EngineCatalogue, Host, WorldError
from cachekeep.domain.steps import Advertise, Bind, Configure, Follow, Promote, Remove, Start, Step, Stop

log = structlog.get_logger()

GRACE_S = 5.0


@dataclass(frozen=True)
class Failure:
    """A step that the world refused, and its words."""

    step: Step
    key: NodeKey
    reason: str


class Actor:
    """Carries out steps."""

    def __init__(self, host: Host, admin: EngineAdmin, catalogue: EngineCatalogue, attempts: Attempts) -> None:
        self._host = host
        self._admin = admin
        self._catalogue = catalogue
        self._attempts = attempts

    async def run(self, stages: tuple[tuple[Step, ...], ...]) -> list[Failure]:
        """What did not go through. Stops after the first stage in which something did not."""
        for stage in stages:
            results = await asyncio.gather(*(self._try(step) for step in stage))
            failures = [failure for failure in results if failure is not None]
            if failures:
                return failures
        return []

    async def _try(self, step: Step) -> Failure | None:
        key = step.spec.key if isinstance(step, Start) else step.key
        try:
            await self._do(step)
        except (WorldError, ValueError) as error:
            # ValueError: a configuration that cannot be written safely.
            log.warning("step failed", step=type(step).__name__, node=str(key), reason=str(error))
            if isinstance(step, Start):
                self._attempts.failed(key, (str(error),))
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
            case Configure(_, address, values):
                await self._admin.configure(address, values)
            case Advertise(key, members, version):
                self._host.advertise(key, version, members)

    async def _start(self, step: Start) -> None:
        spec = step.spec
        install = self._install(spec)
        process = await self._host.start(spec, install, keep_data=step.keep_data)
        self._attempts.started(spec.key, process)

    def _install(self, spec: NodeSpec) -> EngineInstall | None:
        if spec.program is ProgramKind.DISCOVERY:
            return None
        install = self._catalogue.best(spec.engine, spec.version)
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
        await self._host.stop(step.key, grace_s=GRACE_S)
        await self._admin.forget(step.address)
