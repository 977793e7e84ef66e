"""GetMetricStatistics: the statistics of one metric. Runs in a thread: reads series and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from cachekeep.api.cloudwatch.call import CloudWatchCall, Result, validation_error
from cachekeep.api.cloudwatch.select import Columns, check_period, percentile_of, rounded, statistic_of
from cachekeep.domain.alarms import Dimensions
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value

MAX_DATAPOINTS = 1440


def dimensions_of(given: Sequence[Mapping[str, str]] | None) -> Dimensions:
    """In order of their names."""
    return tuple(sorted((one["Name"], one["Value"]) for one in given or ()))


def times_of(call: CloudWatchCall) -> tuple[float, float]:
    """Raises ValidationError when the end does not come after the start."""
    start, end = call.params["StartTime"], call.params["EndTime"]
    assert isinstance(start, datetime)  # noqa: S101 - the model's type
    assert isinstance(end, datetime)  # noqa: S101
    if start >= end:
        raise validation_error("The parameter StartTime must be less than the parameter EndTime.")
    return start.timestamp(), end.timestamp()


def get_metric_statistics(call: CloudWatchCall) -> Result:
    params = call.params
    statistics, extended = call.texts("Statistics"), call.texts("ExtendedStatistics")
    if not statistics and not extended:
        raise Fault("MissingParameter", "At least one of the parameters Statistics and ExtendedStatistics is required.")
    for one in extended:
        if percentile_of(one) is None:
            raise invalid_value(f"The value {one[:60]} for parameter ExtendedStatistics is not supported: use pNN.NN.")
    try:
        start, end = times_of(call)
        period = check_period(params["Period"])
    except Fault as fault:
        raise invalid_combination(fault.message) from None
    now = call.services.now()
    asked_for = (min(end, now + 60) - rounded(start, now, period)) / period
    if (end - start) / params["Period"] > MAX_DATAPOINTS and asked_for > MAX_DATAPOINTS:
        raise invalid_combination(
            f"You have requested up to {int((end - start) / params['Period'])} datapoints, which exceeds the limit of "
            f"{MAX_DATAPOINTS}. You may reduce the datapoints requested by increasing Period, or decreasing the time "
            "range."
        )
    return {"Label": params["MetricName"], "Datapoints": _datapoints(call, start, end, period, statistics, extended)}


def _datapoints(
    call: CloudWatchCall, start: float, end: float, period: int, statistics: tuple[str, ...], extended: tuple[str, ...]
) -> list[dict[str, object]]:
    namespace, name = call.params["Namespace"], call.params["MetricName"]
    dimensions, unit = dimensions_of(call.params.get("Dimensions")), call.text("Unit")
    columns = Columns(call.services, call.region, start, end, {name})
    column = columns.column(namespace, name, dimensions, period, unit)
    if not len(column):
        return []
    unit = call.services.metrics[name].unit
    points: list[dict[str, object]] = [{"Timestamp": at, "Unit": unit} for at in column.starts]
    for statistic in statistics:
        for point, value in zip(points, statistic_of(column, statistic), strict=True):
            point[statistic] = value
    if extended:
        found = [columns.values(namespace, name, dimensions, one, period, None)[1] for one in extended]
        for point, values in zip(points, zip(*found, strict=True), strict=True):
            point["ExtendedStatistics"] = dict(zip(extended, values, strict=True))
    return points
