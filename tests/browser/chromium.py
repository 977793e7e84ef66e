"""A headless Chromium, driven by the W3C WebDriver protocol: what the tests need of it, and nothing of a library.

Source: https://www.w3.org/TR/webdriver2/ (commands), and ChromeDriver's own `goog/cdp/execute` and `se/log`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_PORT = re.compile(rb"started successfully on port (\d+)")
TAB, ENTER = "\ue004", "\ue007"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
_ANSWER_S = 60.0
# As Debian, Ubuntu and Google name it.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def why_not() -> str | None:
    """Why there is no Chromium to test with, or None."""
    if _program() is None or shutil.which("chromedriver") is None:
        return "needs chromium and chromedriver: scripts/test_browser.sh installs them where it may"
    return None


def _program() -> str | None:
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


class Refused(Exception):
    """The browser could not do it; W3C's code and text."""


class Chromium:
    """One browser with one window. Everything waits for what it needs, with a deadline."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "chromedriver.log"
        with self._log.open("wb") as log:
            self._driver = subprocess.Popen(
                ["chromedriver", "--port=0"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._session = ""
        self._http = http.client.HTTPConnection("127.0.0.1", timeout=_ANSWER_S)
        try:
            port = self.until(lambda: _PORT.search(self._log.read_bytes()))[1]
            self._http = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_ANSWER_S)
            self._session = "/session/" + self._ask("POST", "/session", _capabilities(folder))["sessionId"]
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        with suppress(Refused, OSError, http.client.HTTPException):
            self._ask("DELETE", "")
        self._end()

    def _end(self) -> None:
        # The whole session: a driver that ends in a hurry leaves its browser behind.
        with suppress(ProcessLookupError):
            os.killpg(self._driver.pid, signal.SIGKILL)
        self._driver.wait(10)
        self._http.close()

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    @property
    def path(self) -> str:
        """Of the page that is shown, with its query."""
        return str(self.script("return location.pathname + location.search"))

    def script(self, code: str, *arguments: object) -> Any:
        return self._ask("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def texts(self, css: str) -> list[str]:
        """As rendered, of all that match."""
        found = self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", css)
        return [str(text) for text in found]

    def has(self, text: str) -> bool:
        return text in self.script("return document.body ? document.body.innerText : ''")

    def click(self, css: str, text: str = "") -> None:
        """The first that matches and has the text."""
        self._act(css, text, "click", {})

    def type(self, css: str, text: str) -> None:
        self._act(css, "", "value", {"text": text})

    def press(self, *keys: str) -> None:
        """Keys, one after another, to whatever has the focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """PNG of the window, or of the whole page."""
        asked = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            width, height = self.script("return [innerWidth, document.documentElement.scrollHeight]")
            asked["clip"] = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        path.write_bytes(base64.b64decode(self.devtools("Page.captureScreenshot", **asked)["data"]))

    def prefer(self, scheme: str) -> None:
        """scheme: `dark` or `light`, as the system would say."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width: int, height: int) -> None:
        """The part of the window that shows the page, in CSS pixels; 0 for as it was."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def devtools(self, method: str, **parameters: object) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": method, "params": parameters})

    def complaints(self) -> list[str]:
        """What the console was told since the last call: warnings and errors, breaches of the CSP among them."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def axe(self, *rules: str) -> list[str]:
        """Violations on this page that axe-core calls serious or critical; of all rules, or of these."""
        self.script(AXE.read_text())
        found = self._ask("POST", "/execute/async", {"script": _RUN_AXE, "args": [list(rules)]})
        return [str(violation) for violation in found]

    @staticmethod
    def until(ask: Callable[[], Any], deadline_s: float = 20.0) -> Any:
        """The first true answer; fails with the last one after deadline_s."""
        deadline = time.monotonic() + deadline_s
        while not (answer := ask()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {deadline_s:g} s; last answer: {answer!r}")
            time.sleep(0.02)
        return answer

    def _act(self, css: str, text: str, what: str, more: dict[str, Any]) -> None:
        """On an element; once more where the page renewed it in between."""

        def attempt() -> bool:
            for found in self._ask("POST", "/elements", {"using": "css selector", "value": css}):
                element = f"/element/{found[_ELEMENT]}"
                try:
                    if text in self._ask("GET", f"{element}/text"):
                        self._ask("POST", f"{element}/{what}", more)
                        return True
                except Refused as error:
                    if not str(error).startswith(("stale element", "element not interactable")):
                        raise
            return False

        self.until(attempt)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}) if method == "POST" else None
        self._http.request(method, self._session + path, data, {"content-type": "application/json"})
        answer = json.loads(self._http.getresponse().read())["value"]
        if isinstance(answer, dict) and "error" in answer and "stacktrace" in answer:
            raise Refused(f"{answer['error']}: {answer['message'][:500]}")
        return answer


_RUN_AXE = """
const done = arguments[arguments.length - 1];
const only = arguments[0].length ? {runOnly: {type: "rule", values: arguments[0]}} : {};
axe.run(document, Object.assign({resultTypes: ["violations"]}, only)).then(
  found => done(found.violations.filter(v => ["serious", "critical"].includes(v.impact)).map(
    v => v.id + ": " + v.help + " at " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(" | "))),
  error => done(["axe failed: " + error]));
"""


def _capabilities(folder: Path) -> dict[str, Any]:
    arguments = [
        "--headless=new",
        "--no-sandbox",  # the sandbox does not work for root, and the pages are our own
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-proxy-server",
        "--no-first-run",
        "--disable-background-networking",
        "--force-device-scale-factor=1",
        "--window-size=1400,1000",
        f"--user-data-dir={folder / 'profile'}",
    ]
    options = {"binary": _program(), "args": arguments}
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "WARNING"}}
    return {"capabilities": {"alwaysMatch": wanted}}
