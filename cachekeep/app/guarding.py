"""Access put together: keys, what their policies allow, the trail of what was asked, and IAM tokens for engines."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from cachekeep import credentials
from cachekeep.access.agent import Agent
from cachekeep.access.iam_module import IamModule
from cachekeep.access.key_ring import KeyRing
from cachekeep.access.trail_file import TrailFile
from cachekeep.api.context import Services
from cachekeep.api.engine_tokens import TokenJudge
from cachekeep.api.gate import Gate
from cachekeep.api.ops.tags import tags_at
from cachekeep.domain.identity import IamUsers
from cachekeep.domain.ports import WorldError
from cachekeep.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True)
class Guarding:
    keys: KeyRing
    gate: Gate
    trail: TrailFile
    agent: Agent
    module: IamModule

    async def start(self) -> None:
        """Without the agent no token is let in; all else goes on."""
        try:
            await self.agent.start()
        except WorldError as error:
            log.warning("IAM tokens are not taken", reason=str(error))

    async def close(self) -> None:
        await self.agent.close()
        self.module.close()
        self.trail.close()


def build_guarding(settings: Settings, services: Services, module: IamModule, users: IamUsers) -> Guarding:
    """The first-start key must be there. module: what engines load. users: see api.engine_tokens."""
    state = settings.state_dir

    def own() -> tuple[str, str] | None:
        try:
            key = credentials.load(state)
        except credentials.CredentialsError as error:
            log.warning("the first-start key cannot be read; the one that was good goes on", reason=str(error))
            return None
        return key.id, key.secret

    keys = KeyRing(state, state / credentials.FILE_NAME, own, settings.access_keys, services.clock.now)
    trail = TrailFile(state)
    account, now = settings.account_id, services.clock.now
    gate = Gate(keys, trail, account, now, lambda arn: tags_at(services, arn))
    judge = TokenJudge(gate, services.store, services.clock, account, users)
    return Guarding(keys, gate, trail, Agent(module.socket, judge), module)
