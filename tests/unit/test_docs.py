"""The pages made from the code are up to date, and the truth table names tests that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cachekeep.api.cloudwatch.operations import OPERATIONS as CLOUDWATCH_OPERATIONS
from cachekeep.api.operations import OPERATIONS, REFUSED_PROOF, STS_OPERATIONS
from cachekeep.codec.aws_model import load_service

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
assert _spec is not None
assert _spec.loader is not None
make_docs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_docs)


@pytest.mark.parametrize("page", sorted(make_docs.PAGES))
def test_a_made_page_is_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == make_docs.PAGES[page](), "run: python scripts/make_docs.py"


def test_the_table_names_only_operations_of_the_model() -> None:
    assert set(OPERATIONS) <= set(load_service("elasticache").operations)


def test_the_page_has_a_row_for_every_operation() -> None:
    rows = set(re.findall(r"^\| ([A-Za-z]+) \| (?:real|recorded|refused) ", make_docs.coverage(), re.MULTILINE))
    assert rows == set(load_service("elasticache").operations)


@pytest.mark.parametrize(
    "proof",
    sorted(
        {entry.proof for entry in [*OPERATIONS.values(), *STS_OPERATIONS.values()]}
        | {entry.proof for entry in CLOUDWATCH_OPERATIONS.values()}
        | {REFUSED_PROOF}
    ),
)
def test_every_proof_is_a_test(proof: str) -> None:
    path, _, name = proof.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()
