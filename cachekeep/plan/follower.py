"""A shard whose primary follows a server outside: of a migration, or of another region of a global datastore. Pure.

Its primary is the member that follows the source; the others follow that one, in a chain. It takes no writes: the
engine refuses them, being a replica. Nothing here is ever promoted, until the source is no longer wanted; plan.shard
promotes the primary then. Called by plan.shard.
"""

from __future__ import annotations

from cachekeep.domain.nodes import Address
from cachekeep.domain.steps import Follow, SwitchOver
from cachekeep.plan.member import Member, Phase, Shard, ShardPlan, follows_source, in_role, phased
from cachekeep.plan.upstream import HandOut


def lead(shard: Shard, primary: Member, source: Address) -> ShardPlan | None:
    """Until the primary follows the source; None when it does and shall go on. primary: serves.

    A member that is to be primary instead follows the source itself first, and the former one follows it after that:
    all of them have the same history, so that nothing is copied again.
    """
    successor = shard.member(shard.hand_over_to)
    if successor is not None and successor.key != primary.key:
        if follows_source(successor, source):
            return ShardPlan(successor.key, sentence=f"{successor.key} follows {source} in place of {primary.key}")
        if in_role(successor, primary) and successor.switch_hold_s <= 0 and shard.source_ready:
            steps = [Follow(successor.key, successor.spec.address, source)]
            return ShardPlan(
                shard.primary, phased(Phase.ROLE, steps), sentence=f"handing over from {primary.key} to {successor.key}"
            )
    if follows_source(primary, source):
        return None
    if not shard.source_ready:
        return ShardPlan(shard.primary, sentence=f"waiting for {source} to have its data")
    steps = [Follow(primary.key, primary.spec.address, source)]
    return ShardPlan(shard.primary, phased(Phase.ROLE, steps), sentence=f"{primary.key} is to follow {source}")


def hand_out(shard: Shard, primary: Member, to: HandOut) -> ShardPlan:
    """The role leaves this group: its primary gives up the endpoint for as long as that takes, and follows the other.

    Without its endpoint it is known to have begun (plan.upstream), and clients that came in by it are cut: none is left
    that could write here once the pause is over, whatever happens to the service.
    """
    kept = tuple(h for h in primary.facts.binds if h not in shard.primary_hosts) or (primary.spec.address.host,)
    given_up = tuple(h for h in primary.facts.binds if h in shard.primary_hosts)
    step = SwitchOver(primary.key, primary.spec.address, to.key, to.address, kept, to.binds, given_up)
    return ShardPlan(shard.primary, phased(Phase.ROLE, [step]), sentence=f"handing over from {primary.key} to {to.key}")
