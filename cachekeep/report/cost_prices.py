"""The price list that surfaces go by: the package's rows, and over them those that `cachekeep cost import` kept.

The imported file is read in a thread, once, and again when it changes: that of all regions takes seconds.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from cachekeep.data.prices import PriceFileError, package_prices, read_prices
from cachekeep.domain.prices import Price, PriceList

# In the state directory.
IMPORTED = "prices.csv"
MOST_BYTES = 64 * 1024**2
# Less than what a command waits for an answer.
_PATIENCE_S = 5.0

_Stamp = tuple[int, int, int]


class KnownPrices:
    """path: the imported prices, which need not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._list = package_prices()
        self._trouble: str | None = None
        self._reading: asyncio.Task[PriceList] | None = None

    def latest(self) -> PriceList:
        """What is known now, at once. A file that changed is read meanwhile, for the next one who asks."""
        if _stamp(self._path) != self._stamp and not self._lock.locked():
            threading.Thread(target=self.read, name="prices", daemon=True).start()
        return self._list

    def read(self) -> PriceList:
        """The rows of now, the file read anew where it changed: may take seconds, for threads. A file that cannot be
        read leaves those before it in use, and is told in `trouble`."""
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                try:
                    self._list, self._trouble = package_prices().merged(imported_rows(self._path)), None
                except (OSError, PriceFileError) as error:
                    self._trouble = f"imported prices are left out or old: {error}"
                self._stamp = stamp
            return self._list

    async def wait(self) -> None:
        """Until the file of now is read, or a few seconds. However many wait, one thread reads."""
        if self._reading is None or self._reading.done():
            if _stamp(self._path) == self._stamp:
                return
            self._reading = asyncio.create_task(asyncio.to_thread(self.read))
        await asyncio.wait([self._reading], timeout=_PATIENCE_S)

    @property
    def trouble(self) -> str | None:
        """Why imported prices are not those of the file; None when all is well."""
        if _stamp(self._path) != self._stamp:
            return "imported prices are still being read: ask again in a moment"
        return self._trouble


def imported_rows(path: Path) -> list[Price]:
    """Those of the file; none when it is not there. Raises OSError, and PriceFileError for a damaged file."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise PriceFileError(f"{path.name} has {size / 1024**2:.0f} MiB, at most {MOST_BYTES // 1024**2} are read")
        return read_prices(path.read_text("utf-8-sig"), path.name)
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise PriceFileError(f"{path.name} is no text: {error.reason}") from error


def _stamp(path: Path) -> _Stamp | None:
    """What differs once a new file has taken the old one's place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
