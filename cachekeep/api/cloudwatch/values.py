"""The values that alarms are judged by. Implements domain.notifications.AlarmValues; runs in a thread."""

from __future__ import annotations

from collections.abc import Sequence

from cachekeep.api.cloudwatch.call import CloudWatchCall, CloudWatchServices, validation_error
from cachekeep.api.cloudwatch.get_data import Answering
from cachekeep.domain.alarms import MetricQuery
from cachekeep.domain.notifications import Values
from cachekeep.plan.metric_math import MathError


class SeriesValues:
    """Reads what GetMetricData would."""

    def __init__(self, services: CloudWatchServices) -> None:
        self._services = services

    def values(self, region: str, queries: Sequence[MetricQuery], start: int, end: int, period: int) -> Values:
        """See the port."""
        told = next((query for query in queries if query.return_data), None)
        if told is None:
            raise validation_error("Exactly one of the metrics of an alarm must return data.")
        call = CloudWatchCall(self._services, region, {})
        try:
            found = Answering(call, tuple(queries), start, end).book.series(told.id)
        except MathError as error:
            raise validation_error(f"{error}.") from None
        if len(found) > 1:
            raise validation_error("The expression of an alarm must give a single time series.")
        known = dict(zip(found[0].starts, found[0].values, strict=True)) if found else {}
        return [known.get(at) for at in range(start, end, period)]
