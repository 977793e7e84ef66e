"""A small PromQL: parses what our rules and panels use, and evaluates what the rules use, on the series of one node.

Strict: what it does not know is an error, so that a wrong expression cannot pass. Names of functions and the order of
operators are those of Prometheus 2.42 (promql/parser).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# By name: (seconds before now as a negative number, value), ascending.
Series = Mapping[str, Sequence[tuple[float, float]]]

LOOKBACK_S = 300.0
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w$]))|(?P<duration>\d+[smhd]|\$__\w+)|(?P<name>[A-Za-z_]\w*)
    |(?P<text>"(?:[^"\\]|\\.)*")|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/><=(){}\[\],:]))""",
    re.VERBOSE,
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_COUNT: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_LEVELS = ({"or"}, {"and", "unless"}, set(_COMPARE), {"+", "-"}, {"*", "/"})
_ON_RANGE = {"rate", "increase", "deriv", "predict_linear", "avg_over_time", "max_over_time", "min_over_time"}
_ON_INSTANT = {"histogram_quantile", "vector"}
_AGGREGATIONS = {"sum", "max", "min", "avg", "count"}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Malformed(Exception):
    pass


@dataclass(frozen=True)
class Selector:
    name: str
    labels: tuple[str, ...] = ()
    offset_s: float = 0.0


@dataclass(frozen=True)
class Range:
    """of: over its last window_s; of an expression, evaluated each step_s."""

    of: Any
    window_s: float
    step_s: float = 0.0
    offset_s: float = 0.0


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Binary:
    sign: str
    left: Any
    right: Any


def parse(text: str) -> Any:
    """The tree of an expression. Raises Malformed."""
    parser = _Parser(text)
    tree = parser.expression(0)
    parser.expect("end")
    return tree


def names(tree: Any) -> set[str]:
    """The metrics that it selects."""
    match tree:
        case Selector():
            return {tree.name}
        case Range():
            return names(tree.of)
        case Call():
            return set().union(*map(names, tree.arguments)) if tree.arguments else set()
        case Binary():
            return names(tree.left) | names(tree.right)
    return set()


def evaluate(tree: Any, series: Series, at: float = 0.0) -> float | None:
    """The value for one node, None for no result. at: seconds relative to now."""
    match tree:
        case float():
            return tree
        case Selector():
            found = [value for time, value in series.get(tree.name, ()) if 0 <= at - tree.offset_s - time < LOOKBACK_S]
            return found[-1] if found else None
        case Call():
            return _call(tree, series, at)
        case Binary():
            return _binary(tree, series, at)
    raise Malformed(f"cannot be evaluated here: {tree}")


def _binary(tree: Binary, series: Series, at: float) -> float | None:
    left, right = evaluate(tree.left, series, at), evaluate(tree.right, series, at)
    if tree.sign == "or":
        return left if left is not None else right
    if left is None or right is None:
        return None
    if tree.sign == "and":
        return left
    if tree.sign in _COMPARE:
        return left if _COMPARE[tree.sign](left, right) else None
    return _COUNT[tree.sign](left, right)


def _call(tree: Call, series: Series, at: float) -> float | None:
    points = _points(tree.arguments[0], series, at)
    if not points:
        return None
    values = [value for _, value in points]
    match tree.function:
        case "avg_over_time":
            return sum(values) / len(values)
        case "max_over_time":
            return max(values)
        case "rate" if len(points) > 1:  # without resets and extrapolation
            return (values[-1] - values[0]) / (points[-1][0] - points[0][0])
        case "deriv" if len(points) > 1:
            return _line(points, at)[0]
        case "predict_linear" if len(points) > 1:
            slope, level = _line(points, at)
            return float(level + slope * tree.arguments[1])
        case "rate" | "deriv" | "predict_linear":
            return None
    raise Malformed(f"cannot be evaluated here: {tree.function}")


def _points(over: Range, series: Series, at: float) -> list[tuple[float, float]]:
    end = at - over.offset_s
    if isinstance(over.of, Selector):
        return [(time, value) for time, value in series.get(over.of.name, ()) if end - over.window_s <= time <= end]
    times = [end - step * over.step_s for step in range(int(over.window_s // over.step_s), -1, -1)]
    found = [(time, evaluate(over.of, series, time)) for time in times]
    return [(time, value) for time, value in found if value is not None]


def _line(points: Sequence[tuple[float, float]], at: float) -> tuple[float, float]:
    """Least squares: slope per second, and the value at `at`."""
    mean_at, mean = (sum(column) / len(points) for column in zip(*points, strict=True))
    spread = sum((time - mean_at) ** 2 for time, _ in points)
    slope = sum((time - mean_at) * (value - mean) for time, value in points) / spread
    return slope, mean + slope * (at - mean_at)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise Malformed(f"at {text[at : at + 20]!r}")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self._tokens.append(("end", "end"))
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at][1]

    def take(self, kind: str = "") -> str:
        found, text = self._tokens[self._at]
        if kind and found != kind:
            raise Malformed(f"{kind} expected, not {text!r}")
        self._at += 1
        return text

    def expect(self, text: str) -> None:
        if self.take() != text:
            raise Malformed(f"{text!r} expected before {self.peek()!r}")

    def expression(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self.operand()
        left = self.expression(level + 1)
        while self.peek() in _LEVELS[level]:
            sign = self.take()
            for word in ("on", "ignoring", "group_left", "group_right"):
                if self.peek() == word:
                    self.take()
                    self.label_list()
            left = Binary(sign, left, self.expression(level + 1))
        return left

    def operand(self) -> Any:
        kind, text = self._tokens[self._at]
        if kind == "number":
            return float(self.take())
        if text == "(":
            self.take()
            inner = self.expression(0)
            self.expect(")")
            return self.ranged(inner)
        name = self.take("name")
        if name in _AGGREGATIONS:
            return self.aggregation(name)
        if self.peek() == "(":
            return self.call(name)
        labels = self.matchers() if self.peek() == "{" else ()
        return self.ranged(Selector(name, labels))

    def aggregation(self, name: str) -> Call:
        if self.peek() in ("by", "without"):
            self.take()
            self.label_list()
        self.expect("(")
        inner = self.expression(0)
        self.expect(")")
        if isinstance(inner, Range):
            raise Malformed(f"{name} of a range")
        return Call(name, (inner,))

    def call(self, name: str) -> Call:
        if name not in _ON_RANGE | _ON_INSTANT:
            raise Malformed(f"no such function: {name}")
        self.expect("(")
        arguments = [self.expression(0)]
        while self.peek() == ",":
            self.take()
            arguments.append(self.expression(0))
        self.expect(")")
        if isinstance(arguments[0], Range) != (name in _ON_RANGE):
            raise Malformed(f"{name} of a range or an instant, whichever it does not take")
        if len(arguments) != (2 if name in ("predict_linear", "histogram_quantile") else 1):
            raise Malformed(f"{name} with {len(arguments)} arguments")
        return Call(name, tuple(arguments))

    def ranged(self, of: Any) -> Any:
        """With what may stand behind it: [window], [window:step], offset."""
        if self.peek() == "[":
            self.take()
            window, step = self.duration(), 0.0
            if self.peek() == ":":
                self.take()
                step = self.duration()
            self.expect("]")
            if isinstance(of, Selector) == bool(step):
                raise Malformed("a subquery needs a step, a selector has none")
            return Range(of, window, step, self.offset())
        offset = self.offset()
        return Selector(of.name, of.labels, offset) if isinstance(of, Selector) else of

    def offset(self) -> float:
        if self.peek() != "offset":
            return 0.0
        self.take()
        return self.duration()

    def duration(self) -> float:
        text = self.take("duration")
        return 60.0 if text.startswith("$") else float(text[:-1]) * _UNITS[text[-1]]

    def matchers(self) -> tuple[str, ...]:
        self.expect("{")
        found = []
        while self.peek() != "}":
            found.append(self.take("name"))
            if self.take() not in ("=", "!=", "=~", "!~"):
                raise Malformed("no such matcher")
            self.take("text")
            if self.peek() == ",":
                self.take()
        self.expect("}")
        return tuple(found)

    def label_list(self) -> None:
        if self.peek() == "(":
            self.take()
            while self.peek() != ")":
                self.take("name")
                if self.peek() == ",":
                    self.take()
            self.expect(")")
