"""Metric math as text -> a tree. Pure; bounded in length and depth.

Called by plan.metric_math. Source: CloudWatch guide "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_LENGTH: Final = 2048
MAX_DEPTH: Final = 40
# A chain such as 1+1+1+... is a deep tree, too.
MAX_OPERATORS: Final = 300


class MathError(ValueError):
    """An expression that cannot be read or computed; the text says why, for the caller."""


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Text:
    value: str


@dataclass(frozen=True)
class Name:
    """The id of another query, or a word such as REPEAT."""

    value: str


@dataclass(frozen=True)
class Operator:
    """sign: + - * / ^ < > <= >= == != && ||. Unary minus is 0 - x."""

    sign: str
    left: Tree
    right: Tree


@dataclass(frozen=True)
class Function:
    name: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True)
class Several:
    """[m1, m2]: an array of time series."""

    items: tuple[Tree, ...]


Tree: TypeAlias = "Number | Text | Name | Operator | Function | Several"

# Numbers cannot run into letters: `1e` is a mistake, not 1 and a name.
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?(?![A-Za-z0-9_.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<sign>&&|\|\||<=|>=|==|!=|[-+*/^<>()\[\],]))"
)
_INSIGHTS = re.compile(r"\s*SELECT\s", re.IGNORECASE)
_BINDS: Final = {
    "||": 1,
    "OR": 1,
    "&&": 2,
    "AND": 2,
    **dict.fromkeys(("<", ">", "<=", ">=", "==", "!="), 3),
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "^": 7,
}
_WORDS: Final = {"OR": "||", "AND": "&&"}
_MINUS_BINDS: Final = 6


def parse(expression: str) -> Tree:
    """Raises MathError."""
    if len(expression) > MAX_LENGTH:
        raise MathError(f"An expression can have at most {MAX_LENGTH} characters")
    if _INSIGHTS.match(expression):
        raise MathError("Metrics Insights queries (SELECT ...) are not supported: use metrics, metric math or SEARCH")
    parser = _Parser(list(_tokens(expression)))
    tree = parser.expression(0, 0)
    if parser.kind != "end":
        raise MathError(f"Unexpected {parser.text!r}")
    return tree


def names(tree: Tree) -> frozenset[str]:
    """The ids and words that occur in it."""
    found, waiting = set(), [tree]
    while waiting:
        match waiting.pop():
            case Name(value):
                found.add(value)
            case Operator(_, left, right):
                waiting += (left, right)
            case Function(_, items) | Several(items):
                waiting += items
    return frozenset(found)


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at, text = 0, expression.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise MathError(f"Unexpected character at position {at + 1}")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
    yield "end", "end of the expression"


class _Parser:
    """Precedence climbing."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._operators = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def text(self) -> str:
        return self._tokens[self._at][1]

    def _take(self, wanted: str = "") -> str:
        text = self.text
        if wanted and text != wanted:
            raise MathError(f"Expected {wanted!r} but found {text!r}")
        self._at += 1
        return text

    def expression(self, binds: int, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise MathError("The expression is nested too deeply")
        left = self._operand(depth)
        while self.kind in ("sign", "name") and _BINDS.get(self.text, 0) > binds:
            sign = self._take()
            self._operators += 1
            if self._operators > MAX_OPERATORS:
                raise MathError(f"An expression can have at most {MAX_OPERATORS} operators")
            # A power binds to the right: 2^3^2 is 2^9. Others of one rank bind to the left.
            right = self.expression(_BINDS[sign] - (sign == "^"), depth + 1)
            left = Operator(_WORDS.get(sign, sign), left, right)
        return left

    def _operand(self, depth: int) -> Tree:
        kind, text = self.kind, self._take()
        if kind == "number":
            number = float(text)
            if not math.isfinite(number):  # 1e999
                raise MathError(f"The number {text[:40]} is too large")
            return Number(number)
        if kind == "text":
            return Text(text[1:-1])
        if kind == "name":
            if self.text == "(":
                self._take()
                return Function(text.upper(), self._items(")", depth))
            return Name(text)
        if text == "(":
            inner = self.expression(0, depth + 1)
            self._take(")")
            return inner
        if text == "[":
            return Several(self._items("]", depth))
        if text == "-":
            return Operator("-", Number(0.0), self.expression(_MINUS_BINDS, depth + 1))
        raise MathError(f"Unexpected {text!r}")

    def _items(self, end: str, depth: int) -> tuple[Tree, ...]:
        items: list[Tree] = []
        while self.text != end or self.kind != "sign":
            if items:
                self._take(",")
            items.append(self.expression(0, depth + 1))
        self._take(end)
        return tuple(items)
