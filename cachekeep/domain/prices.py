"""What AWS asks for a cache node: price rows, lists of them, and what a node type gives for the money. Pure.

A price that no source states is None. It is shown as unknown; nothing is ever put in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from cachekeep.domain.engine import Engine
from cachekeep.domain.parameters import NodeType

# The region of a row whose source names none.
UNSTATED = "unstated"
HOURS_PER_YEAR = 8760
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
# Ten times the dearest node that AWS has; more is a slip of a file.
_MOST_USD_PER_HOUR = Decimal(10_000)
_MOST_USD_UPFRONT = Decimal(100_000_000)

Key = tuple[str, str, Engine, "PriceModel"]


class PriceModel(StrEnum):
    """How a node is paid for: by the hour, or reserved for one or three years with none, part or all paid before."""

    ON_DEMAND = "on-demand"
    RESERVED_1_NONE = "reserved-1yr-no-upfront"
    RESERVED_1_PARTIAL = "reserved-1yr-partial-upfront"
    RESERVED_1_ALL = "reserved-1yr-all-upfront"
    RESERVED_3_NONE = "reserved-3yr-no-upfront"
    RESERVED_3_PARTIAL = "reserved-3yr-partial-upfront"
    RESERVED_3_ALL = "reserved-3yr-all-upfront"

    @property
    def years(self) -> int:
        """The years that are paid for whatever is used; 0 on demand."""
        return 0 if self is PriceModel.ON_DEMAND else int(self.value[len("reserved-")])


@dataclass(frozen=True, slots=True)
class Price:
    """One row. region: AWS's code, or `unstated`. as_of: YYYY-MM-DD, or "" where the source gives no date.

    usd_per_hour: of one node, None for not known. usd_upfront: once, for all the years of the model. Raises ValueError
    if negative, not a number or absurd.
    """

    node_type: str
    region: str
    engine: Engine
    model: PriceModel
    usd_per_hour: Decimal | None
    usd_upfront: Decimal
    source: str
    as_of: str = ""

    def __post_init__(self) -> None:
        if not self.node_type or not self.region or not self.source:
            raise ValueError("node type, region and source must be given")
        if self.as_of and not _DATE.match(self.as_of):
            raise ValueError(f"as_of must be a date like 2026-10-02, not {self.as_of[:40]!r}")
        if self.usd_per_hour is not None:
            _check("USD per hour", self.usd_per_hour, _MOST_USD_PER_HOUR)
        _check("upfront USD", self.usd_upfront, _MOST_USD_UPFRONT)
        if self.usd_upfront and not self.model.years:
            raise ValueError("only a reserved node has an upfront price")

    @property
    def key(self) -> Key:
        return self.node_type, self.region, self.engine, self.model

    @property
    def effective_usd_per_hour(self) -> Decimal | None:
        """With the upfront part spread over all hours of the years."""
        if self.usd_per_hour is None or not self.model.years:
            return self.usd_per_hour
        return self.usd_per_hour + self.usd_upfront / (self.model.years * HOURS_PER_YEAR)


def _check(what: str, amount: Decimal, most: Decimal) -> None:
    if not amount.is_finite() or not 0 <= amount <= most:
        raise ValueError(f"{what} must be between 0 and {most:,}, not {amount!s:.40}")


class PriceList:
    """Rows by node type, region, engine and model. Of two rows of one key the newer counts, of one date the later."""

    def __init__(self, rows: Iterable[Price] = ()) -> None:
        self._rows: dict[Key, Price] = {}
        for row in rows:
            had = self._rows.get(row.key)
            if had is None or _rank(row) >= _rank(had):
                self._rows[row.key] = row

    def __iter__(self) -> Iterator[Price]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def find(
        self, node_type: str, region: str, engine: Engine, model: PriceModel = PriceModel.ON_DEMAND
    ) -> Price | None:
        """The row, or None; its price may still be unknown."""
        return self._rows.get((node_type, region, engine, model))

    def merged(self, rows: Iterable[Price]) -> PriceList:
        """These rows and others over them."""
        return PriceList([*self, *rows])


def _rank(row: Price) -> tuple[bool, str]:
    """A known price before an unknown one, then by date; rows without a date are the oldest."""
    return row.usd_per_hour is not None, row.as_of


@dataclass(frozen=True)
class NodeSpecs:
    """A node type with what sizing needs besides. network_gbps: the baseline in each direction, None for not known.

    cpu_baseline_pct: what each vCPU of a burstable type may use for ever, None for a type that does not burst.
    """

    type: NodeType
    network: str = ""
    network_gbps: float | None = None
    cpu_baseline_pct: float | None = None
