"""Fixtures of the tests of notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from subscribers import Clock, Web

from cachekeep.notify.deliver import Deliveries


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def other_web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def deliveries() -> Iterator[Deliveries]:
    made = Deliveries(None, Clock().now, webhook_s=0.5, command_s=5)
    yield made
    made.close()
