"""Right-sizing: the node types and shapes that would hold an observed load, what they cost, why cheaper ones do not.

Called by the service's right-size page. Pure. Of each node type the fewest shards that hold the load are offered; every
demand falls with more shards, so all shapes of that type with fewer shards fail too. A load whose memory is not known
has no answer; other unknowns are named, skipped, and lower the confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import NodeSpecs, PriceList
from cachekeep.plan.cost import Usage, cost_usd
from cachekeep.plan.right_size_shapes import (
    ASSUMPTIONS,
    Goal,
    Load,
    Observed,
    shape_name,
    usable_bytes,
    why_not,
)

_DAY_S = 86400.0
# Types that AWS calls previous generation. Source: ElastiCache user guide, "Supported node types".
_PREVIOUS = frozenset({"t1", "t2", "m1", "m2", "m3", "m4", "r3", "r4", "c1"})


class Confidence(StrEnum):
    """high: all known, over a week or more. medium: at most two unknowns, over a day or more. low: anything less."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True)
class Shape:
    """One way to run it. usd_month: None when the price is not known. usable_bytes: of all shards together.

    usd_by_engine: of a shape that holds it, for every engine that could run it with the same data.
    why_not: the demand that it does not meet, "" when it holds the load. notes: what to know before choosing it.
    """

    engine: Engine
    node_type: str
    shards: int
    replicas: int
    usd_month: Decimal | None
    usable_bytes: float
    why_not: str = ""
    notes: tuple[str, ...] = ()
    usd_by_engine: tuple[tuple[Engine, Decimal | None], ...] = ()

    @property
    def nodes(self) -> int:
        return self.shards * (1 + self.replicas)

    def __str__(self) -> str:
        return shape_name(self.node_type, self.shards, self.replicas, self.engine)


@dataclass(frozen=True)
class RightSize:
    """candidates: by price, those without a known price last. rejected: cheaper than the first candidate, the largest
    such shape of each type. need_bytes: with margin and growth. answer: one sentence."""

    observed: Observed
    goal: Goal
    region: str
    need_bytes: float | None
    candidates: tuple[Shape, ...]
    rejected: tuple[Shape, ...]
    present: Shape | None
    unknown: tuple[str, ...]
    confidence: Confidence
    answer: str


def right_size(
    observed: Observed, specs: Mapping[str, NodeSpecs], prices: PriceList, region: str, goal: Goal | None = None
) -> RightSize:
    """Judge every node type, for the present number of replicas and, where there are more, for one."""
    goal = goal or Goal()
    present_specs = specs.get(observed.node_type)
    load = Load(observed, goal)
    unknown = tuple(_unknowns(observed))
    shapes = [] if load.memory_bytes is None else list(_shapes(load, specs, prices, region))
    candidates = _once(sorted((s for s in shapes if not s.why_not), key=_rank))
    best = candidates[0].usd_month if candidates else None
    rejected = sorted(_cheaper(shapes, best), key=_rank)
    present = _present(load, present_specs, prices, region)
    return RightSize(
        observed,
        goal,
        region,
        load.memory_bytes,
        tuple(candidates),
        tuple(rejected),
        present,
        unknown,
        _confidence(observed, unknown),
        _answer(candidates, present, load),
    )


def _shapes(load: Load, specs: Mapping[str, NodeSpecs], prices: PriceList, region: str) -> Iterator[Shape]:
    """Of each engine, type and replica count: the shapes that fail, by shards, and the first that does not."""
    for engine in _engines(load.seen.engine):
        for one in specs.values():
            if usable_bytes(one, engine, load.goal) <= 0:
                continue
            for replicas in _replica_counts(load.seen):
                for shards in range(1, load.most_nodes // (1 + replicas) + 1):
                    shape = _shape(one, engine, shards, replicas, load, prices, region)
                    yield shape
                    if not shape.why_not:
                        break


def _shape(
    specs: NodeSpecs, engine: Engine, shards: int, replicas: int, load: Load, prices: PriceList, region: str
) -> Shape:
    usage = Usage(shards * (1 + replicas))
    usd = {engine: _usd(prices, specs.type.name, region, engine, usage)}
    reason = why_not(specs, engine, shards, replicas, load)
    other = "" if engine is load.seen.engine else f" ({engine.label})"
    if engine.speaks_resp and not reason:
        usd = {one: _usd(prices, specs.type.name, region, one, usage) for one in (Engine.VALKEY, Engine.REDIS)}
    return Shape(
        engine,
        specs.type.name,
        shards,
        replicas,
        usd[engine],
        usable_bytes(specs, engine, load.goal) * shards,
        f"{shape_name(specs.type.name, shards, replicas, engine)}{other}: {reason}" if reason else "",
        () if reason else tuple(_notes(specs, engine, shards, replicas, load)),
        tuple(usd.items()),
    )


def _usd(prices: PriceList, node_type: str, region: str, engine: Engine, usage: Usage) -> Decimal | None:
    price = prices.find(node_type, region, engine)
    return cost_usd(price, usage) if price else None


def _engines(engine: Engine) -> tuple[Engine, ...]:
    """Redis OSS data and clients move to Valkey as they are, at a lower price."""
    return (Engine.REDIS, Engine.VALKEY) if engine is Engine.REDIS else (engine,)


def _replica_counts(seen: Observed) -> tuple[int, ...]:
    """Never none where there are some: without a replica there is no failover."""
    return (seen.replicas,) if seen.replicas <= 1 else (seen.replicas, 1)


def _notes(specs: NodeSpecs, engine: Engine, shards: int, replicas: int, load: Load) -> Iterator[str]:
    if specs.cpu_baseline_pct is not None:
        needed = load.engine_cores(shards, replicas)
        may = specs.cpu_baseline_pct / 100 * specs.type.vcpu
        if needed is None:
            yield f"burstable ({may:.2f} cores for ever), and the CPU needed is unknown"
        elif needed > may:
            yield f"burstable: the peak of {needed:.2f} cores is above its baseline of {may:.2f} and spends credits"
    if shards > 1 and load.seen.shards == 1 and engine.speaks_resp:
        yield "more than one shard needs cluster mode, and clients that know it"
    if replicas < load.seen.replicas:
        yield f"{replicas} instead of {load.seen.replicas} replicas: fewer may fail at once"
    if engine is not load.seen.engine:
        yield f"{engine.label} instead of {load.seen.engine.label}"
    if specs.type.family in _PREVIOUS:
        yield "a previous generation"


def _once(ranked: Sequence[Shape]) -> list[Shape]:
    """One of those that differ by the engine alone: each tells what the others would cost."""
    found: dict[tuple[str, int, int], Shape] = {}
    for shape in ranked:
        found.setdefault((shape.node_type, shape.shards, shape.replicas), shape)
    return list(found.values())


def _cheaper(shapes: Sequence[Shape], best: Decimal | None) -> list[Shape]:
    """Of those that fail and cost less than the best candidate, the largest of each type. Without one: of all."""
    largest: dict[tuple[str, int], Shape] = {}
    for shape in shapes:
        if not shape.why_not or (best is not None and (shape.usd_month is None or shape.usd_month >= best)):
            continue
        before = largest.get((shape.node_type, shape.replicas))
        if before is None or shape.shards >= before.shards:
            largest[shape.node_type, shape.replicas] = shape
    return list(largest.values())


def _present(load: Load, specs: NodeSpecs | None, prices: PriceList, region: str) -> Shape | None:
    seen = load.seen
    if specs is None:
        return None
    return _shape(specs, seen.engine, seen.shards, seen.replicas, load, prices, region)


def _rank(shape: Shape) -> tuple[bool, Decimal, int, float, str]:
    """By price; of one price the fewer nodes, then the larger memory. Without a price the smaller ones come first."""
    usd = shape.usd_month
    if usd is None:
        return True, Decimal(0), 0, shape.usable_bytes, f"{shape.nodes:03d}{shape.node_type}"
    return False, usd, shape.nodes, -shape.usable_bytes, shape.node_type


def _unknowns(seen: Observed) -> Iterator[str]:
    told = {
        "used memory": seen.used_bytes,
        "growth (taken as none)": seen.growth_bytes_per_day,
        "fragmentation": seen.fragmentation_ratio if seen.engine.speaks_resp else 0,
        # Memcached tells none of its own.
        "engine CPU": seen.engine_cpu_pct,
        "connections": seen.connections,
        "network in": seen.bytes_in_per_s,
        "network out": seen.bytes_out_per_s,
    }
    yield from (name for name, value in told.items() if value is None)


def _confidence(seen: Observed, unknown: Sequence[str]) -> Confidence:
    if not unknown and seen.window_s >= 7 * _DAY_S:
        return Confidence.HIGH
    if "used memory" not in unknown and len(unknown) <= 2 and seen.window_s >= _DAY_S:
        return Confidence.MEDIUM
    return Confidence.LOW


def _answer(candidates: Sequence[Shape], present: Shape | None, load: Load) -> str:
    if load.memory_bytes is None:
        return "the used memory is unknown, so no size can be named"
    if not candidates:
        return f"no node type holds this load with at most {load.most_nodes} nodes"
    best = candidates[0]
    if best.usd_month is None:
        return f"{best} would hold it, at a price that is unknown"
    text = f"{best} ({best.engine.label}) would hold it for {best.usd_month:.2f} USD a month"
    unpriced = next((shape for shape in candidates if shape.usd_month is None), best)
    if unpriced.usable_bytes < best.usable_bytes:
        text += f" ({unpriced} is smaller, at a price that is unknown)"
    if best.replicas < load.seen.replicas:
        text += f", with {best.replicas} instead of {load.seen.replicas} replicas"
    simple = next((shape for shape in candidates if shape.shards == 1 and shape.usd_month is not None), None)
    if best.shards > 1 and load.seen.shards == 1 and simple is not None:
        text += f" (without cluster mode {simple} for {simple.usd_month:.2f})"
    if present is None or present.usd_month is None:
        return text
    if present.why_not:
        return f"{text}; the present {present} does not hold it with the margin"
    saved = present.usd_month - best.usd_month
    return f"{text}, {saved:.2f} less than the present {present}" if saved > 0 else f"{text}: the present one is right"


def as_json(result: RightSize) -> dict[str, Any]:
    """The page for programs; amounts in USD a month (730 hours on demand), sizes in bytes."""
    seen = result.observed
    return {
        "answer": result.answer,
        "confidence": result.confidence.value,
        "unknown": list(result.unknown),
        "region": result.region,
        "need_bytes": result.need_bytes,
        "goal": vars(result.goal),
        "observed": {**vars(seen), "engine": seen.engine.value},
        "present": _shape_json(result.present) if result.present else None,
        "candidates": [_shape_json(shape) for shape in result.candidates],
        "rejected": [_shape_json(shape) for shape in result.rejected],
        "assumptions": list(ASSUMPTIONS),
    }


def _shape_json(shape: Shape) -> dict[str, Any]:
    return {
        "engine": shape.engine.value,
        "node_type": shape.node_type,
        "shards": shape.shards,
        "replicas": shape.replicas,
        "nodes": shape.nodes,
        "usd_month": None if shape.usd_month is None else float(shape.usd_month),
        "usd_month_by_engine": {
            engine.value: None if usd is None else float(usd) for engine, usd in shape.usd_by_engine
        },
        "usable_bytes": shape.usable_bytes,
        "why_not": shape.why_not or None,
        "notes": list(shape.notes),
    }
