"""How much of each a caller may have: AWS's default quotas, each of which a setting can change. Pure.

Source: ElastiCache guide "Quotas" (read 2026-11); the number of Memcached nodes: botocore elasticache 2015-02-02
(NumCacheNodes between 1 and 40). Tags (50 a resource), members of a node group (6) and 500 nodes of a
replication group are limits of AWS that no request raises, and so are they here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

_MOST = 1_000_000
# AWS raises these no further.
_LIMITS = {"nodes_per_cluster": 500, "node_groups_per_replication_group": 500}


@dataclass(frozen=True)
class Quotas:
    """Names as in the setting, with hyphens there. Raises ValueError for what is no number of at least 1."""

    nodes_per_region: int = 300
    clusters_per_region: int = 300
    nodes_per_cluster: int = 90
    memcached_nodes_per_cluster: int = 40
    node_groups_per_replication_group: int = 90
    parameter_groups: int = 300
    subnet_groups: int = 300
    subnets_per_subnet_group: int = 20
    reserved_nodes_per_region: int = 300

    def __post_init__(self) -> None:
        for one in fields(self):
            most = _LIMITS.get(one.name, _MOST)
            if not 1 <= getattr(self, one.name) <= most:
                raise ValueError(f"{setting_name(one.name)} must be between 1 and {most}")

    @classmethod
    def parse(cls, text: str) -> Quotas:
        """`nodes-per-region=20,subnet-groups=5`; "" for the defaults. Raises ValueError with a sentence."""
        names = {setting_name(one.name): one.name for one in fields(cls)}
        given: dict[str, int] = {}
        for pair in filter(None, (part.strip() for part in text.split(","))):
            name, equals, amount = (part.strip() for part in pair.partition("="))
            if not equals or name not in names:
                raise ValueError(f"{pair[:60]!r} must be NAME=NUMBER, where NAME is one of {', '.join(names)}")
            if not (amount.isascii() and amount.isdigit()) or len(amount) > 7:
                raise ValueError(f"{name} must be a whole number between 1 and {_MOST}, not {amount[:40]!r}")
            given[names[name]] = int(amount)
        return replace(cls(), **given)


def setting_name(name: str) -> str:
    return name.replace("_", "-")
