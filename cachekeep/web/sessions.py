"""Sessions of the dashboard: in memory only, bounded, ended by idling, by age, or by signing out.

A restart of the service signs everybody out. The key's secret is never kept.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

IDLE_S = 8 * 3600.0
ABSOLUTE_S = 24 * 3600.0
MOST_SESSIONS = 256
# Plans that one session has seen and may still carry out.
MOST_PLANS = 16
PLAN_S = 600.0
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Plan:
    """A request as it was rehearsed. resource: as in the path of its page, "" for what is yet to be made. typed: its
    name must be typed to confirm. identity: see web.agreement."""

    action: str
    resource: str
    region: str
    fields: Mapping[str, str]
    answers: Mapping[str, str]
    preview: Mapping[str, object]
    name: str = ""
    typed: bool = False
    identity: tuple[object, ...] = ()


@dataclass
class Session:
    """csrf: every POST must carry it. notice: a sentence that the next page shows, once. used_at: when somebody last
    asked by hand: while a form is answered, that is now. source: the address of the request that is answered."""

    access_key: str
    region: str
    began_at: float
    used_at: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES), repr=False)
    plans: OrderedDict[str, tuple[float, Plan]] = field(default_factory=OrderedDict, repr=False)
    notice: str = ""
    source: str = ""

    def keep_plan(self, plan: Plan) -> str:
        """A token with which exactly this plan can be carried out, once, for PLAN_S."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.plans[token] = (self.used_at, plan)
        while len(self.plans) > MOST_PLANS:
            self.plans.popitem(last=False)
        return token

    def find_plan(self, token: str) -> Plan | None:
        """None for one that was never made here, was carried out, or is too old."""
        made_at, plan = self.plans.get(token, (0.0, None))
        if plan is None or self.used_at - made_at > PLAN_S:
            self.plans.pop(token, None)
            return None
        return plan

    def take_notice(self) -> str:
        notice, self.notice = self.notice, ""
        return notice


class Sessions:
    """By token, the least recently used first. now: seconds, monotonic."""

    def __init__(self, now: Callable[[], float], most: int = MOST_SESSIONS) -> None:
        self._now = now
        self._most = most
        self._open: OrderedDict[str, Session] = OrderedDict()

    def begin(self, access_key: str, region: str) -> tuple[str, Session]:
        """A new session and its token of 256 random bits. The one that idled longest goes where there are too many."""
        now = self._now()
        token, session = secrets.token_urlsafe(_TOKEN_BYTES), Session(access_key, region, now, now)
        self._open[token] = session
        while len(self._open) > self._most:
            self._open.popitem(last=False)
        return token, session

    def find(self, token: str, *, by_hand: bool = True) -> Session | None:
        """by_hand: somebody is there. What a page asks for by itself keeps no session alive."""
        session = self._open.get(token)
        if session is None:
            return None
        now = self._now()
        if now - session.used_at > IDLE_S or now - session.began_at > ABSOLUTE_S:
            del self._open[token]
            return None
        if by_hand:
            session.used_at = now
            self._open.move_to_end(token)
        return session

    def end(self, token: str) -> None:
        self._open.pop(token, None)
