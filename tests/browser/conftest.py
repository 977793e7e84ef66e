"""One service with a past, and one browser, for all tests of the dashboard in a browser."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from cachekeep import credentials
from cachekeep.app.monitoring import METRICS_FILE
from cachekeep.domain.metrics import Point, Subject
from cachekeep.store.series import SeriesFile
from cachekeep.web.metrics import NAMES

from ..scenarios.conftest import Service
from .chromium import Chromium, why_not

GROUP = "shop"
REGION = "us-east-1"
PAST_MINUTES = 40
# Of a cache that is doing well: the middle of the first node's values, and how far they go from it.
_USUAL = {
    "CPUUtilization": (35.0, 12.0),
    "EngineCPUUtilization": (28.0, 15.0),
    "DatabaseMemoryUsagePercentage": (62.0, 6.0),
    "DatabaseCapacityUsagePercentage": (60.0, 6.0),
    "CacheHitRate": (88.0, 3.0),
    "CurrConnections": (120.0, 30.0),
    "MemoryFragmentationRatio": (1.12, 0.05),
    "FreeableMemory": (16e9, 1e9),
    "DB0AverageTTL": (2.4e6, 3e5),
    "NetworkBytesIn": (6e7, 2e7),
    "NetworkBytesOut": (2e8, 7e7),
    "NetworkPacketsIn": (6.1e5, 2e5),
    "NetworkPacketsOut": (7.3e5, 2e5),
}


class Dashboard:
    """The service, its key, and where it keeps what the tests saw."""

    def __init__(self, service: Service, artefacts: Path) -> None:
        self.service = service
        self.key = credentials.load(service.state_dir)
        self._artefacts = artefacts
        self._shots = 0

    def url(self, path: str = "/") -> str:
        return f"{self.service.url}/ui{path}"

    def shot(self, browser: Chromium, what: str) -> Path:
        """A screenshot of the whole page, among the artefacts."""
        self._shots += 1
        path = self._artefacts / f"{self._shots:02}-{re.sub('[^a-z0-9]+', '-', what.lower())}.png"
        browser.screenshot(path, whole=True)
        return path


def write_past(path: Path, end: float, minutes: int = PAST_MINUTES) -> None:
    """Points of all charted metrics for the nodes that the group will have: it is as if there had been one before."""
    series = SeriesFile(path)
    last = int(end // 60) * 60
    for start in range(last - 60 * minutes, last, 60):
        series.write(start, {Subject(REGION, f"{GROUP}-00{n}", "0001"): _points(start, n) for n in (1, 2)})
    series.close()


def _points(start: int, number: int) -> dict[str, Point]:
    wave = math.sin(start / 900 + number / 3) * 0.8 + math.sin(start / 170) * 0.2
    usual = {name: _USUAL.get(name, (0.0, 0.0)) for name in NAMES}
    return {name: Point.of((middle + wave * swing) * (1.08 - 0.08 * number)) for name, (middle, swing) in usual.items()}


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: CACHEKEEP_ARTEFACTS, or below the tests' temporary folder."""
    given = os.environ.get("CACHEKEEP_ARTEFACTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    made = Chromium(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def dashboard(
    chromium: Chromium, tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network, artefacts: Path
) -> Iterator[Dashboard]:
    state = tmp_path_factory.mktemp("dashboard") / "state"
    state.mkdir()
    write_past(state / METRICS_FILE, time.time())
    service = Service(state, next(loopback_range.subnets(new_prefix=26)))
    try:
        service.start()
        yield Dashboard(service, artefacts)
    finally:
        service.dispose()
