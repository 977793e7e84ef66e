"""Makes the picture of the documentation: `python -m tests.browser.picture docs/images/dashboard.png`.

A real service with two real nodes under a small load; the datapoints of the hour before are made up.
"""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import valkey

from cachekeep import credentials
from cachekeep.app.monitoring import METRICS_FILE

from ..scenarios.conftest import Service, connect, create_group
from .chromium import Chromium
from .conftest import GROUP, write_past

WIDTH, HEIGHT, SCALE = 1280, 1500, 0.85
_LEAST_CHARTS = 3
_KEYS = 160_000


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cachekeep-picture-") as folder:
        state = Path(folder) / "state"
        state.mkdir()
        write_past(state / METRICS_FILE, time.time(), 70)
        service = Service(state, IPv4Network("127.64.7.0/26"))
        browser = None
        try:
            # Early in a minute: the first real points come with its end, and would look odd beside the made up ones.
            Chromium.until(lambda: 8 < time.time() % 60 < 15, 70)
            service.start()
            made = create_group(service.client(), [], GROUP, CacheNodeType="cache.t4g.micro")
            cache = connect(made["NodeGroups"][0]["PrimaryEndpoint"])
            _fill(cache)
            browser = Chromium(Path(folder))
            _take(browser, service, target)
        finally:
            if browser is not None:
                browser.close()
            service.dispose()


def _fill(cache: valkey.Valkey[Any]) -> None:
    """Some 60 % of its memory, as the datapoints of before say."""
    for first in range(0, _KEYS, 1000):
        batch = cache.pipeline(transaction=False)
        for number in range(first, first + 1000):
            batch.set(f"basket:{number}", "x" * 900, ex=3600)
        batch.execute()


def _take(browser: Chromium, service: Service, target: Path) -> None:
    key = credentials.load(service.state_dir)
    browser.resize(WIDTH, HEIGHT)
    browser.open(service.url)
    browser.type("#access_key", key.id)
    browser.type("#secret", key.secret)
    browser.click("button", "Sign in")
    browser.until(lambda: browser.has("available"))
    browser.open(f"{service.url}/ui/group/{GROUP}")
    browser.until(lambda: browser.has("safe, or not known"))
    browser.until(lambda: browser.has(str(_KEYS)), 60)
    drawn = "return document.querySelectorAll('[data-metric] canvas').length"
    browser.until(lambda: browser.script(drawn) >= _LEAST_CHARTS)
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": SCALE}
    shot = browser.devtools("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
