"""What the endpoint of a subscription may be. Pure.

Called by api.topics when one is added, and by notify when it is used.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

# Nothing that could be an option of a program, or another header of a mail.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.][A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{0,63}@[A-Za-z0-9.-]{1,253}\Z")


def is_address(text: str) -> bool:
    """A plain e-mail address, without a name beside it."""
    return _ADDRESS.match(text) is not None


def web_url(text: str) -> SplitResult | None:
    """The parts of an http or https URL in ASCII, without a user or password in it; None for anything else."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    plain = text.isascii() and text.isprintable() and " " not in text and "@" not in url.netloc and port != 0
    return url if plain and url.scheme in ("http", "https") and url.hostname else None
