"""The pages made from the code are up to date, and the truth table names tests that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cachekeep.api.cloudwatch.operations import OPERATIONS as CLOUDWATCH_OPERATIONS
from cachekeep.api.operations import OPERATIONS, REFUSED_PROOF, STS_OPERATIONS
from cachekeep.api.tagging.operations import OPERATIONS as TAGGING_OPERATIONS
from cachekeep.codec.aws_model import load_service
from cachekeep.settings import ENVIRONMENT

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
        | {entry.proof for entry in TAGGING_OPERATIONS.values()}
        | {REFUSED_PROOF}
    ),
)
def test_every_proof_is_a_test(proof: str) -> None:
    path, _, name = proof.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def test_the_settings_table_has_every_setting_and_no_other() -> None:
    table = (ROOT / "README.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    named = [name for row in re.findall(r"^\| (`CACHEKEEP_[^|]+) \|", table, re.MULTILINE) for name in row.split(", ")]
    assert sorted(named) == sorted(f"`{name}`" for name in ENVIRONMENT.values())


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_to_pages_that_are_there(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(link).exists(), link
