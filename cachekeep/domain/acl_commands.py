"""Which commands engine versions know, and which no client may have: rules of users are made of that. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cachekeep.domain.engine import Engine, EngineVersion


@dataclass(frozen=True)
class Commands:
    """What the engines know. by_version: (engine, major, minor) -> names, subcommands as `acl|list`; restricted: those
    that no client may have; categories: without `@`."""

    by_version: tuple[tuple[Engine, EngineVersion, frozenset[str]], ...] = ()
    restricted: tuple[str, ...] = ()
    categories: frozenset[str] = frozenset()

    def of(self, engine: Engine, version: EngineVersion) -> frozenset[str]:
        """Those of the newest known version that is not newer. Valkey before the first known one is Redis 7."""
        best: frozenset[str] = frozenset()
        for known, since, names in self.by_version:
            if since <= version and (known is engine or known is Engine.REDIS):
                best = names
        return best

    @property
    def every(self) -> frozenset[str]:
        return frozenset[str]().union(*(names for _, _, names in self.by_version))
