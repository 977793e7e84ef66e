"""Browsers at a dashboard over fake ports."""

from __future__ import annotations

import pytest
from browser import Browser


@pytest.fixture
def stranger() -> Browser:
    return Browser()


@pytest.fixture
def browser() -> Browser:
    """Signed in."""
    made = Browser()
    assert made.sign_in().status == 303
    return made
