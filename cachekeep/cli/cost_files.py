"""The price lists that `cachekeep cost` goes by: the package's, those that were imported, and a file of the moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cachekeep.cli.refusal import Refused
from cachekeep.codec.offer_file import Offer, OfferFileError, read_offer
from cachekeep.data.prices import PriceFileError, package_prices, read_prices, write_prices
from cachekeep.domain.prices import Price, PriceList
from cachekeep.report.cost_prices import IMPORTED, MOST_BYTES, imported_rows

# AWS's file of all regions has hundreds of megabytes, a price file of all that Cachekeep keeps less than ten.
_MOST_OFFER_BYTES = 4 * 1024**3
_MOST_ENTRIES = 1_000_000
_PARTIAL = ".partial"


def known_prices(state_dir: Path, own: Path | None = None) -> PriceList:
    """The package's rows, under those that were imported, under those of a file. Raises Refused."""
    prices = package_prices().merged(imported_prices(state_dir))
    return prices if own is None else prices.merged(_rows_of(own))


def imported_prices(state_dir: Path) -> list[Price]:
    """What `cachekeep cost import` kept; none before. Raises Refused if the file is damaged."""
    try:
        return imported_rows(state_dir / IMPORTED)
    except PriceFileError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"cannot read {state_dir / IMPORTED}: {error.strerror}") from error


def import_offer(path: Path, state_dir: Path) -> tuple[Offer, int]:
    """Keep the prices of an offer file, or of a price file, over those imported before.

    Returns what was read, and how many rows are kept now. The new file takes the old one's place whole. Raises Refused.
    """
    offer = _read_offer(path)
    if not offer.prices:
        raise Refused(f"{path.name} has no price of a cache node that can be used{_left_out(offer)}")
    kept = PriceList(imported_prices(state_dir)).merged(offer.prices)
    if len(kept) > _MOST_ENTRIES:
        raise Refused(f"{path.name} would make {len(kept):,} prices; at most {_MOST_ENTRIES:,} are kept")
    _put(state_dir / IMPORTED, write_prices(kept).encode())
    return offer, len(kept)


def _put(target: Path, text: bytes) -> None:
    """Under another name beside it, and on the disk, before it takes its place: whatever happens, one of the two is
    there whole. Raises Refused."""
    if len(text) > MOST_BYTES:
        raise Refused(f"the prices would take {len(text) / 1024**2:.0f} MiB, at most {MOST_BYTES // 1024**2} are kept")
    partial = target.with_suffix(f".{os.getpid()}{_PARTIAL}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in target.parent.glob(f"{target.stem}.*{_PARTIAL}"):  # by an import that was killed
            left.unlink(missing_ok=True)
        with partial.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        raise Refused(f"cannot write {target}: {error.strerror}; the prices are as before", 1) from error
    finally:
        partial.unlink(missing_ok=True)


def _rows_of(path: Path) -> list[Price]:
    """Of a price file or an offer file."""
    return _price_rows(path) if _is_price_file(path) else list(_read_offer(path).prices)


def _read_offer(path: Path) -> Offer:
    if _is_price_file(path):
        return Offer(tuple(_price_rows(path)), {}, "", "")
    _check_size(path, _MOST_OFFER_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return read_offer(stream)
    except OfferFileError as error:
        raise Refused(f"{path.name}: {error}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path.name} is no text; an offer file is JSON or CSV (unpack it first)") from error
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error


def _price_rows(path: Path) -> list[Price]:
    _check_size(path, MOST_BYTES)
    try:
        return read_prices(path.read_text("utf-8-sig"), path.name)
    except PriceFileError as error:
        raise Refused(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}") from error


def _is_price_file(path: Path) -> bool:
    """By its first line, which names our columns."""
    _check_size(path, _MOST_OFFER_BYTES)
    try:
        with path.open("rb") as stream:
            return stream.read(13).removeprefix(b"\xef\xbb\xbf").startswith(b"node_type,")
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error


def _check_size(path: Path, most: int) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{path} is no file")
    if found.st_size > most:
        raise Refused(f"{path.name} has {found.st_size / 1024**2:.0f} MiB, at most {most // 1024**2} MiB are read")


def _left_out(offer: Offer) -> str:
    reasons = "; ".join(f"{count} {reason}" for reason, count in offer.left_out.items())
    return f" (left out: {reasons})" if reasons else ""
