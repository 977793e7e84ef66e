"""GetResources, GetTagKeys, GetTagValues, TagResources, UntagResources."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cachekeep.api.action_resources import canonical
from cachekeep.api.context import Call, Services
from cachekeep.api.gate import Gate, Visit
from cachekeep.api.ops import tags as own
from cachekeep.api.present import tag_list
from cachekeep.domain.alarms import Alarm
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.identity import OK, ROOT_IDENTITY
from cachekeep.domain.ports import Conflict, WorldError

Result = Mapping[str, object]
_ALONE = ("TagFilters", "ResourceTypeFilters", "ResourcesPerPage", "TagsPerPage", "PaginationToken")
# Fewest, most, usual. Source: the model's texts; the usual size is that of the service.
_RESOURCES: Final = (1, 100, 50)
_TAGS: Final = (100, 500, 500)
# Of keys and values, a page.
_WORDS_PER_PAGE: Final = 1000


@dataclass(frozen=True)
class TaggingCall:
    """One request that the gate let in. gate: asked about every resource that is to be changed."""

    services: Services
    visit: Visit
    params: Mapping[str, Any]
    gate: Gate | None


@dataclass(frozen=True)
class Entry:
    """proof: the test that shows it. note: for docs/api-coverage.md."""

    handler: Callable[[TaggingCall], Result]
    proof: str
    note: str = ""


def get_resources(call: TaggingCall) -> Result:
    """Ordered by ARN. A resource that had tags and has none is not remembered."""
    wanted = call.params.get("ResourceARNList")
    if wanted is not None and (clash := next((name for name in _ALONE if call.params.get(name)), None)):
        raise invalid_value(f"ResourceARNList cannot be combined with {clash}.")
    if call.params.get("ExcludeCompliantResources") and not call.params.get("IncludeComplianceDetails"):
        raise invalid_value("ExcludeCompliantResources can be used only with IncludeComplianceDetails.")
    if call.params.get("ExcludeCompliantResources"):
        return {"PaginationToken": "", "ResourceTagMappingList": []}
    found = [(arn, tags) for arn, tags in _tagged(call) if _fits(arn, tags, call.params)]
    if wanted is not None:
        asked = {canonical(str(arn)) for arn in wanted}
        page, token = [(arn, tags) for arn, tags in found if arn in asked], ""
    else:
        page, token = _page(call, found)
    details = {"ComplianceDetails": {"ComplianceStatus": True}} if call.params.get("IncludeComplianceDetails") else {}
    shown = [{"ResourceARN": arn, "Tags": tag_list(tags), **details} for arn, tags in page]
    return {"PaginationToken": token, "ResourceTagMappingList": shown}


def get_tag_keys(call: TaggingCall) -> Result:
    keys, token = _words(call, {key for _, tags in _tagged(call) for key in tags})
    return {"PaginationToken": token, "TagKeys": keys}


def get_tag_values(call: TaggingCall) -> Result:
    key = call.params["Key"]
    values, token = _words(call, {tags[key] for _, tags in _tagged(call) if key in tags})
    return {"PaginationToken": token, "TagValues": values}


def tag_resources(call: TaggingCall) -> Result:
    given = [{"Key": key, "Value": value} for key, value in call.params["Tags"].items()]
    if not given:
        raise invalid_value("Tags must have 1 to 50 tags.")
    return _each(call, "AddTagsToResource", own.add_tags_to_resource, lambda _: {"Tags": given})


def untag_resources(call: TaggingCall) -> Result:
    """Succeeds for tags that are gone already."""

    def still_there(arn: str) -> dict[str, object]:
        tags = own.tags_at(call.services, arn)
        return {"TagKeys": [key for key in call.params["TagKeys"] if key in tags]}

    return _each(call, "RemoveTagsFromResource", own.remove_tags_from_resource, still_there)


OPERATIONS: Final[Mapping[str, Entry]] = {
    "GetResources": Entry(get_resources, "tests/unit/api/test_tagging.py::test_resources_are_found_by_their_tags"),
    "GetTagKeys": Entry(get_tag_keys, "tests/unit/api/test_tagging.py::test_keys_and_values_in_use"),
    "GetTagValues": Entry(get_tag_values, "tests/unit/api/test_tagging.py::test_keys_and_values_in_use"),
    "TagResources": Entry(
        tag_resources,
        "tests/unit/api/test_tagging.py::test_what_cannot_be_tagged_is_told_and_the_rest_is_tagged",
        "Caches and what belongs to them; alarms by the CloudWatch API.",
    ),
    "UntagResources": Entry(untag_resources, "tests/unit/api/test_tagging.py::test_tags_go_and_may_be_gone_already"),
}


def _tagged(call: TaggingCall) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The ARN and the tags of each resource of the region that has some, ordered by ARN."""
    account, region = call.services.account_id, call.visit.region
    alarms = (
        (f"arn:aws:cloudwatch:{region}:{account}:alarm:{alarm.name}", alarm.tags)
        for alarm in call.services.store.all(Alarm, region)
    )
    return iter(sorted((arn, tags) for arn, tags in (*own.all_tags(call.services, region), *alarms) if tags))


def _fits(arn: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> bool:
    kinds: Sequence[str] = params.get("ResourceTypeFilters") or ()
    service, kind = arn.split(":")[2], arn.split(":")[5]
    if kinds and not {service, f"{service}:{kind}"} & set(kinds):
        return False
    for wish in params.get("TagFilters") or ():
        key, values = wish.get("Key"), wish.get("Values")
        if key not in tags or (values and tags[key] not in values):
            return False
    return True


def _page(
    call: TaggingCall, found: Sequence[tuple[str, Mapping[str, str]]]
) -> tuple[list[tuple[str, Mapping[str, str]]], str]:
    """By resources or by tags, whichever is asked for. Raises InvalidParameterValue."""
    most = _within(call, "ResourcesPerPage", _RESOURCES)
    most_tags = _within(call, "TagsPerPage", _TAGS)
    after, count = _after(call), 0
    page: list[tuple[str, Mapping[str, str]]] = []
    for arn, tags in found:
        if arn <= after:
            continue
        if len(page) == most or count + len(tags) > most_tags:
            return page, _token(page[-1][0])
        page.append((arn, tags))
        count += len(tags)
    return page, ""


def _words(call: TaggingCall, found: set[str]) -> tuple[list[str], str]:
    """A page of keys or values, each marked, as a value may be empty."""
    after = _after(call)
    rest = sorted(word for word in found if not after or f"={word}" > after)
    page = rest[:_WORDS_PER_PAGE]
    return page, _token(f"={page[-1]}") if len(rest) > len(page) else ""


def _within(call: TaggingCall, name: str, bounds: tuple[int, int, int]) -> int:
    fewest, most, usual = bounds
    value = call.params.get(name)
    if value is None:
        return usual
    if not fewest <= value <= most:
        raise invalid_value(f"{name} must be between {fewest} and {most}, not {value}.")
    return int(value)


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _after(call: TaggingCall) -> str:
    try:
        return base64.b64decode(call.params.get("PaginationToken") or "", b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise Fault("PaginationTokenExpiredException", "The PaginationToken is not one that was given out.") from None


def _each(
    call: TaggingCall,
    operation: str,
    handler: Callable[[Call], object],
    more: Callable[[str], Mapping[str, object]],
) -> Result:
    """Every resource by the operation that ElastiCache has for it, allowed and written down as such."""
    failed: dict[str, object] = {}
    for arn in dict.fromkeys(call.params["ResourceARNList"]):
        try:
            _one(call, operation, handler, {"ResourceName": arn, **more(arn)})
        except Fault as fault:
            failed[arn] = {"StatusCode": fault.status, "ErrorCode": fault.code, "ErrorMessage": fault.message}
        except (WorldError, Conflict) as error:
            failed[arn] = {"StatusCode": 500, "ErrorCode": "InternalServiceException", "ErrorMessage": str(error)}
    return {"FailedResourcesMap": failed}


def _one(call: TaggingCall, operation: str, handler: Callable[[Call], object], params: Mapping[str, object]) -> None:
    asked = call.visit
    visit = Visit(asked.request_id, asked.source, asked.key, asked.region)
    visit.asks("elasticache", operation)
    visit.resources, visit.parameters = (canonical(str(params["ResourceName"])),), params
    outcome, identity = "InternalFailure", ROOT_IDENTITY
    try:
        if call.gate is not None:
            given = params.get("Tags")
            tags = {tag["Key"]: tag["Value"] for tag in given} if isinstance(given, list) else {}
            identity = call.gate.check(visit, visit.region, tags)
        handler(Call(call.services, operation, visit.region, params, visit.key, identity))
        outcome = OK
    except Fault as fault:
        outcome = fault.code
        raise
    finally:
        if call.gate is not None:
            call.gate.end(visit, outcome)
