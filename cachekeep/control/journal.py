"""The journal: what was decided and done about a resource, when and why, in sentences. Called by control.loop.

Written after acting, so that nothing waits for the disk; the same sentence is not told twice in a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cachekeep.control.act import Failure
from cachekeep.control.unit import Unit
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.ports import Clock, Store
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
from cachekeep.plan.decision import REST_S, Decision

# More steps than these of one kind are counted instead of named.
NAMED = 3
_NODE = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]/([a-z0-9-]+)/([A-Za-z0-9.-]+)")
_VERBS: dict[type, str] = {
    Start: "start",
    Stop: "end",
    Remove: "delete the folder of",
    Follow: "attach replica",
    Replicate: "attach replica",
    Promote: "promote",
    TakeOver: "promote",
    SwitchOver: "hand over from",
    ClusterSwitchOver: "hand over to",
    Bind: "move addresses at",
    Configure: "set parameters of",
    Certify: "make a certificate for",
    SetUsers: "set users of",
    Meet: "introduce nodes to",
    Forget: "strike gone nodes from the list of",
    AddSlots: "give slots to",
    MigrateSlots: "migrate slots from",
    MoveSlots: "move slots from",
    CancelMigrations: "cancel slot migrations of",
    Advertise: "announce the members at",
    Latch: "allow or forbid a new link of",
}
# Failures of these are told to the user as an event; the others are mended by the next round.
_TOLD = (Start, Stop, Configure, SetUsers, SwitchOver, ClusterSwitchOver, TakeOver, MigrateSlots, MoveSlots)


def in_words(steps: Sequence[Step]) -> str:
    """`start demo-002; move addresses at demo-001`."""
    by_verb: dict[str, list[str]] = {}
    for step in steps:
        verb = "fence" if isinstance(step, Stop) and step.fence else _VERBS[type(step)]
        name = step.spec.key.cluster_id if isinstance(step, Start) else step.key.cluster_id
        by_verb.setdefault(verb, []).append(name)
    parts = []
    for verb, names in by_verb.items():
        distinct = list(dict.fromkeys(names))
        named = ", ".join(distinct[:NAMED])
        parts.append(f"{verb} {named}" + (f" and {len(distinct) - NAMED} more" if len(distinct) > NAMED else ""))
    return "; ".join(parts)


def _short(sentence: str) -> str:
    """Nodes by the name of their cluster, since a member has one node: `demo-001` for `us-east-1/demo-001/0001`."""
    return _NODE.sub(lambda found: found[1] if found[2] == "0001" else f"{found[1]} ({found[2]})", sentence)


class Journal:
    """Writes notes for all resources."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._last: dict[Unit, str] = {}
        self._told: dict[Unit, set[tuple[object, type]]] = {}

    def forget(self, unit: Unit) -> None:
        self._last.pop(unit, None)
        self._told.pop(unit, None)

    def write(self, unit: Unit, decision: Decision, failures: Sequence[Failure]) -> None:
        """What this round decided and what went wrong. Raises WorldError when the store cannot be written."""
        sentences = [*decision.notes]
        said = decision.sentence
        doing = in_words(decision.steps)
        if doing:
            said = f"{said}: {doing}" if said else doing
        eventful = bool(decision.steps or decision.puts or decision.events or decision.recheck_s < REST_S)
        before = self._last.get(unit)
        # At rest there is nothing to tell, but that what was told before has come to its end.
        if said and said != before and (eventful or before is not None):
            sentences.append(said)
            self._last[unit] = said
        fresh = self._fresh(unit, failures)
        if not failures and decision.recheck_s >= REST_S:
            self._told.pop(unit, None)
        sentences += [f"{type(f.step).__name__} of {f.key.cluster_id} did not go through: {f.reason}" for f in fresh]
        if not sentences:
            return
        now = self._clock.now()
        with self._store.transaction() as work:
            for sentence in dict.fromkeys(_short(text) for text in sentences):
                work.add_note(Note(now, unit.region, unit.id, sentence))
            for failure in fresh:
                if isinstance(failure.step, _TOLD):
                    work.add_event(_event(now, failure))

    def _fresh(self, unit: Unit, failures: Sequence[Failure]) -> list[Failure]:
        told = self._told.setdefault(unit, set())
        fresh = [f for f in failures if (f.key, type(f.step)) not in told]
        told |= {(f.key, type(f.step)) for f in fresh}
        return fresh


def _event(now: float, failure: Failure) -> Event:
    what = {
        Configure: "Parameters could not be applied to node",
        SetUsers: "Users could not be set at node",
        Start: "Could not start node",
        Stop: "Could not end node",
        MigrateSlots: "Could not migrate slots from node",
        MoveSlots: "Could not move slots from node",
    }.get(type(failure.step), "Could not hand over the role of primary at node")
    return Event(
        now,
        failure.key.region,
        SourceType.CACHE_CLUSTER,
        failure.key.cluster_id,
        f"{what} {failure.key.node_id}: {failure.reason}",
    )
