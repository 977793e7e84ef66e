"""Metrics of a running capture: the page as a parser of Prometheus reads it, health, and the server around them."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cachekeep.cli.backup.follow_metrics import Metrics, served
from cachekeep.cli.refusal import Refused
from cachekeep.follow.types import FollowStatus, Phase

STATUS = FollowStatus(
    generation="20261123T115500Z-abcdef",
    method="keyspace",
    phase="following",
    trouble=None,
    covered_since_ms=1_795_435_200_000,
    covered_until_ms=1_795_435_400_123,
    durable_until_ms=1_795_435_398_004,
    lag_ms=12.5,
    lag_p99_ms=45.0,
    changes=1_234_567,
    changes_per_s=2999.4,
    keys=1_000_000,
    gaps=2,
    queue_keys=17,
    bytes=5 << 20,
    missed=3,
    passes=4,
    uptime_s=500.5,
)


class Clock:
    """Seconds that pass when told so."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def metrics_of(status: FollowStatus | None, clock: Clock | None = None) -> Metrics:
    metrics = Metrics(clock or Clock())
    metrics.about('redis://a"quoted\\source:6379', -1500)
    if status is not None:
        metrics.update(status)
    return metrics


def samples(metrics: Metrics) -> Mapping[str, float]:
    """name or name{phase} -> value."""
    _, body = metrics.page()
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            found[sample.name + (f"[{sample.labels['phase']}]" if "phase" in sample.labels else "")] = sample.value
    return found


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_page_has_seconds_bytes_and_counters() -> None:
    assert samples(metrics_of(STATUS)) == {
        "cachekeep_backup_info": 1,
        "cachekeep_backup_phase[starting]": 0,
        "cachekeep_backup_phase[copying]": 0,
        "cachekeep_backup_phase[following]": 1,
        "cachekeep_backup_phase[reconciling]": 0,
        "cachekeep_backup_phase[away]": 0,
        "cachekeep_backup_phase[store]": 0,
        "cachekeep_backup_covered_since_timestamp_seconds": 1_795_435_200,
        "cachekeep_backup_read_until_timestamp_seconds": 1_795_435_400.123,
        "cachekeep_backup_durable_until_timestamp_seconds": 1_795_435_398.004,
        "cachekeep_backup_lag_seconds": 0.0125,
        "cachekeep_backup_lag_p99_seconds": 0.045,
        "cachekeep_backup_queue_keys": 17,
        "cachekeep_backup_status_age_seconds": 0,
        "cachekeep_backup_uptime_seconds": 500.5,
        "cachekeep_backup_source_clock_ahead_seconds": -1.5,
        "cachekeep_backup_changes_total": 1_234_567,
        "cachekeep_backup_keys_read_total": 1_000_000,
        "cachekeep_backup_stored_bytes_total": 5 << 20,
        "cachekeep_backup_gaps_total": 2,
        "cachekeep_backup_missed_changes_total": 3,
        "cachekeep_backup_passes_total": 4,
    }


def test_what_is_followed_is_in_labels() -> None:
    _, body = metrics_of(STATUS).page()
    (info,) = [one for one in text_string_to_metric_families(body.decode()) if one.name == "cachekeep_backup_info"]
    assert info.samples[0].labels == {
        "source": 'redis://a"quoted\\source:6379',
        "method": "keyspace",
        "generation": "20261123T115500Z-abcdef",
    }


def test_what_is_not_known_is_absent_and_not_zero() -> None:
    unknown = replace(
        STATUS, covered_since_ms=None, covered_until_ms=None, durable_until_ms=None, lag_ms=None, lag_p99_ms=None
    )
    found = samples(metrics_of(unknown))
    assert not [name for name in found if "covered" in name or "until" in name or "durable" in name or "lag" in name]
    assert samples(metrics_of(None)) == {}


def test_openmetrics_is_given_to_those_who_ask() -> None:
    kind, body = metrics_of(STATUS).page("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    counters = [family.name for family in openmetrics(body.decode()) if family.type == "counter"]
    assert "cachekeep_backup_changes" in counters


@pytest.mark.parametrize("phase", ["copying", "following", "reconciling"])
def test_a_capture_that_goes_on_is_healthy(phase: Phase) -> None:
    status, text = metrics_of(replace(STATUS, phase=phase)).health()
    assert (status, text) == (200, phase)


@pytest.mark.parametrize("phase", ["away", "store"])
def test_a_capture_that_waits_is_unhealthy_and_says_why(phase: Phase) -> None:
    status, text = metrics_of(replace(STATUS, phase=phase, trouble="the disk is full")).health()
    assert status == 503
    assert text == f"{phase}: the disk is full"
    assert metrics_of(None).health()[0] == 503


def test_a_capture_that_tells_nothing_for_long_is_unhealthy() -> None:
    clock = Clock()
    metrics = metrics_of(STATUS, clock)
    clock.now_s += 59
    assert metrics.health()[0] == 200
    assert samples(metrics)["cachekeep_backup_status_age_seconds"] == 59
    clock.now_s += 2
    assert metrics.health() == (503, "stalled: the capture told nothing for 61 s")
    metrics.update(STATUS)
    assert metrics.health()[0] == 200


def test_the_server_answers_and_leaves_no_thread() -> None:
    before, metrics = set(threading.enumerate()), metrics_of(STATUS)
    with served(0, metrics) as url:
        status, kind, body = get(url)
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert "cachekeep_backup_changes_total 1.234567e+06" in body
        metrics.update(replace(STATUS, changes=7, phase="away", trouble="gone"))
        assert "cachekeep_backup_changes_total 7.0" in get(url)[2]
        root = url.removesuffix("/metrics")
        assert get(f"{root}/healthz")[::2] == (503, "away: gone\n")
        assert get(f"{root}/other")[0] == 404
    assert set(threading.enumerate()) == before
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_a_client_that_says_nothing_holds_up_neither_others_nor_the_end() -> None:
    before, metrics = set(threading.enumerate()), metrics_of(STATUS)
    with served(0, metrics) as url:
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
            silent.sendall(b"GET /met")
            assert get(url)[0] == 200
            idle = [thread for thread in threading.enumerate() if thread not in before]
    assert len(idle) >= 2  # the server's and that of the silent client
    assert set(threading.enumerate()) == before


def test_too_many_clients_at_once_are_cut_off() -> None:
    with served(0, metrics_of(STATUS)) as url:
        port = int(url.split(":")[2].split("/")[0])
        clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(17)]
        try:
            assert clients[16].recv(1) == b""
        finally:
            for client in clients:
                client.close()


def test_a_taken_port_is_refused_with_advice() -> None:
    with served(0, metrics_of(None)) as url:
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(Refused, match=f"127.0.0.1:{port}.*another port") as refused, served(port, Metrics()):
            pass
    assert refused.value.code == 1
