"""The gate: may this key do this to these resources, and what stands in the trail afterwards. For every surface.

Every request opens a `Visit`, which is told what it turns out to be and how it ended. Requests that change something
and refused ones are written down, reads are not. Signatures that are no good are written down up to a number a minute,
so that nobody without a key can push the trail out of its files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cachekeep.api.recorded import short, without_secrets
from cachekeep.domain.faults import Fault
from cachekeep.domain.identity import ROOT_IDENTITY, Identity, Keys, Trail, TrailEntry
from cachekeep.domain.policy import Asked, Decision

DENIED = "AccessDenied"
# Of requests without a good signature, written down in any minute.
MOST_STRANGERS = 60
# Of a request, written down.
MOST_RESOURCES = 50
_READS = ("Describe", "List", "Get")


@dataclass
class Visit:
    """One request on its way. action: with its service, "" until it is known. changes: it is no rehearsal or read."""

    request_id: str
    source: str
    key: str = ""
    region: str = ""
    action: str = ""
    resources: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict, repr=False)
    changes: bool = False

    def asks(self, service: str, operation: str, *, rehearsed: bool = False) -> None:
        self.action = f"{service}:{operation}"
        self.changes = not rehearsed and not operation.startswith(_READS)


class AllKeys:
    """Every key is the owner's: for a service without users. secret_of: as of Keys.get."""

    def __init__(self, secret_of: Callable[[str], str | None]) -> None:
        self._secret_of = secret_of

    def get(self, key_id: str, /) -> str | None:
        return self._secret_of(key_id)

    def identity(self, key_id: str) -> Identity | None:
        return ROOT_IDENTITY


class NoTrail:
    def write(self, entry: TrailEntry) -> None:
        """Kept nowhere."""


class Gate:
    """tags_of: the tags of a resource by its ARN, empty for one that is not there. now: seconds since 1970."""

    def __init__(
        self,
        keys: Keys,
        trail: Trail,
        account: str,
        now: Callable[[], float],
        tags_of: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._keys, self._trail, self._account, self._now, self._tags_of = keys, trail, account, now, tags_of
        self._minute, self._strangers = 0, 0

    def secret_of(self, key_id: str) -> str | None:
        return self._keys.get(key_id)

    def identity(self, key_id: str) -> Identity:
        """Raises InvalidClientTokenId for a key that is not good any more, such as that of an old session."""
        found = self._keys.identity(key_id)
        if found is None:
            raise Fault("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
        return found

    def check(self, visit: Visit, region: str | None, request_tags: Mapping[str, str] | None = None) -> Identity:
        """Whose request it is. region: that of the request, None where it is about all of them. Raises AccessDenied,
        in AWS's words, unless all resources of the visit are allowed."""
        identity = self.identity(visit.key)
        if identity.policy is None:
            return identity
        tags = request_tags or {}
        asked = [
            Asked(visit.action, resource, region, visit.source, self._tags_of(resource), tags)
            for resource in visit.resources or ("*",)
        ]
        refused = identity.policy.first_refused(asked)
        if refused is not None:
            raise Fault(DENIED, _sentence(identity.arn(self._account), *refused))
        return identity

    def end(self, visit: Visit, outcome: str) -> None:
        """outcome: `ok` or the code of the fault."""
        stranger = not visit.key
        if not (visit.changes or stranger or outcome == DENIED) or (stranger and not self._may_write_of_strangers()):
            return
        known = self._keys.identity(visit.key) if visit.key else None
        self._trail.write(
            TrailEntry(
                self._now(),
                visit.request_id,
                visit.key,
                known.name if known is not None else "",
                visit.source,
                visit.region,
                visit.action,
                tuple(short(resource) for resource in visit.resources[:MOST_RESOURCES]),
                outcome,
                without_secrets(visit.parameters),
            )
        )

    def _may_write_of_strangers(self) -> bool:
        minute = int(self._now() // 60)
        if minute != self._minute:
            self._minute, self._strangers = minute, 0
        self._strangers += 1
        return self._strangers <= MOST_STRANGERS


def _sentence(who: str, asked: Asked, decision: Decision) -> str:
    """As AWS words it. Source: IAM user guide, "Troubleshoot access denied error messages"."""
    text = f"User: {who} is not authorized to perform: {asked.action} on resource: {asked.resource}"
    if decision is Decision.DENIED:
        return f"{text} with an explicit deny in an identity-based policy"
    return f"{text} because no identity-based policy allows the {asked.action} action"


def tags_given(params: Mapping[str, object]) -> dict[str, str]:
    """Those of a request's `Tags`: a list of keys and values, in the tagging API a map."""
    given = params.get("Tags")
    if isinstance(given, Mapping):
        return {str(key): str(value or "") for key, value in given.items()}
    pairs: Sequence[object] = given if isinstance(given, list | tuple) else ()
    return {str(tag.get("Key", "")): str(tag.get("Value") or "") for tag in pairs if isinstance(tag, Mapping)}
