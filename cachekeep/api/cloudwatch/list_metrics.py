"""ListMetrics: which series there are. Runs in a thread: reads series and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cachekeep.api import paging
from cachekeep.api.cloudwatch.call import CloudWatchCall, CloudWatchServices, Result, bad_token
from cachekeep.domain.alarms import Dimensions
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.metrics import Subject
from cachekeep.domain.serverless import is_behind_serverless, serverless_name

PAGE = 500
_RECENT_S = 3 * 3600
# AWS lists what had a point in the past two weeks.
_LISTED_S = 14 * 86400


def list_metrics(call: CloudWatchCall) -> Result:
    since = int(call.services.now()) - (_RECENT_S if call.text("RecentlyActive") else _LISTED_S)
    filters = [(f["Name"], f.get("Value")) for f in call.params.get("Dimensions") or ()]
    first = _place(call.text("NextToken"))
    wanted, namespace = call.text("MetricName"), call.text("Namespace")
    if call.text("OwningAccount") not in (None, call.services.account_id):
        return {"Metrics": []}
    found = []
    for dimensions, of_namespace, name in sorted(all_series(call.services, call.region, since, wanted)):
        if namespace in (None, of_namespace) and _fits(dimensions, filters):
            found.append((of_namespace, name, dimensions))
    page = found[first : first + PAGE]
    shown = [
        {"Namespace": ns, "MetricName": name, "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions]}
        for ns, name, dimensions in page
    ]
    more = first + PAGE < len(found)
    return {"Metrics": shown, "NextToken": write_token(first + PAGE) if more else None}


def all_series(
    services: CloudWatchServices, region: str, since: int, wanted: str | None = None
) -> Iterator[tuple[Dimensions, str, str]]:
    """Dimensions, namespace and name of every series that had a point since then; of the metric `wanted`, or of all."""
    subjects = services.series.subjects(region)
    shared: dict[tuple[str, str], None] = {}
    for subject in subjects:
        for name in sorted(services.series.names(subject, since)):
            metric = services.metrics.get(name)
            if metric is None or wanted not in (None, name):
                continue
            for dimensions in _dimensions(subject, shared, name):
                yield dimensions, metric.namespace, name


def _dimensions(subject: Subject, shared: dict[tuple[str, str], None], name: str) -> Iterator[Dimensions]:
    if is_behind_serverless(subject.id):
        if not subject.node_id:
            yield (("ServerlessCacheName", serverless_name(subject.id)),)
        return
    if not subject.node_id:
        yield (("ReplicationGroupId", subject.id),)
        return
    yield (("CacheClusterId", subject.id), ("CacheNodeId", subject.node_id))
    if (subject.id, name) not in shared:  # once for all the nodes of a cluster
        shared[subject.id, name] = None
        yield (("CacheClusterId", subject.id),)


def _fits(dimensions: Dimensions, filters: Sequence[tuple[str, str | None]]) -> bool:
    return all(any(n == name and value in (None, v) for n, v in dimensions) for name, value in filters)


def _place(token: str | None) -> int:
    """Raises InvalidParameterValue: the one fault that this operation has for a token."""
    try:
        return read_token(token)
    except Fault as fault:
        raise invalid_value(fault.message) from None


def write_token(place: int) -> str:
    return paging.written(str(place))


def read_token(token: str | None) -> int:
    """Raises InvalidNextToken."""
    if not token:
        return 0
    try:
        text = paging.read(token)
    except ValueError:
        raise bad_token() from None
    if not (text.isascii() and text.isdecimal()) or len(text) > 12:
        raise bad_token()
    return int(text)
