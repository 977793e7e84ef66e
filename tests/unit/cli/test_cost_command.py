"""`cachekeep cost`: what it prints, keeps, and refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from typer import Typer

from cachekeep.cli.cost import app
from cachekeep.cli.cost_tables import show_running
from cachekeep.cli.refusal import SERVICE_DOWN, Refused
from cachekeep.report.cost_prices import IMPORTED
from tests.unit.codec.test_offer_file import CSV, offer, term

top = Typer()
top.add_typer(app, name="cost")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "180")
    return tmp_path / "state"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        top(["cost", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(capsys, *arguments, "--json"))["rows"]
    return found


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(("name", "usd"), [("cache.m5.large", 118.99), ("cache.m7g.large", 119.72)])
def test_the_seeds_examples_are_among_the_rows_of_their_type(
    capsys: pytest.CaptureFixture[str], name: str, usd: float
) -> None:
    (seed,) = [row for row in rows(capsys, name) if row["region"] == "unstated"]
    assert (seed["engine"], seed["usd"], seed["known"]) == ("redis", usd, True)


@pytest.mark.usefixtures("state")
def test_all_types_are_listed_with_engines_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys)
    assert "Valkey USD" in out
    assert "Memcached USD" in out
    (line,) = [text for text in out.splitlines() if text.startswith("cache.m5.large") and "us-east-1" in text]
    assert line.split()[4:] == ["91.10", "113.88", "unknown"]


@pytest.mark.usefixtures("state")
def test_one_type_is_shown_with_its_formula_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "cache.m5.large", "--count", "2", "--utilisation", "50")
    assert (
        "2 instance(nodes) x 0.163 USD hourly x (50 / 100 Utilized/Month) x 730 hours in a month = 118.9900 USD" in out
    )
    assert "region not stated" in out


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("columns", ["80", "60", "40"])
def test_a_narrow_terminal_cuts_no_price(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    one, many = run(capsys, "cache.c7gn.large"), run(capsys)
    assert "…" not in one + many
    table = one.partition("instance(nodes)")[0]
    for number in ("1143.7056", "0.0664", "148.92", "2026-10-02"):
        assert number in table
    assert not [line for line in many.splitlines()[:-1] if len(line) > int(columns)]


@pytest.mark.usefixtures("state")
def test_a_source_is_named_without_a_doubled_word(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "cache.m5.large")
    assert "source: AWS Price List API" in out
    assert "source: price:" not in out


@pytest.mark.usefixtures("state")
def test_the_help_has_the_options_and_names_the_import(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "--help")
    for word in ("--count", "--hours", "--groups", "cost import", "Exit codes"):
        assert word in out


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["cache.m5.larg"], "did you mean cache.m5.large"),
        (["--count", "0"], "count must be between 1"),
        (["--count", "two"], "count must be a whole number"),
        (["--count", "--5"], "count must be a whole number"),
        (["--count", "9" * 5000], "count must be a whole number"),
        (["--utilisation", "NaN"], "utilisation must be above 0"),
        (["--utilisation", "101"], "utilisation"),
        (["--hours", "-5"], "hours must be above 0"),
        (["--hours", "1e9999999"], "hours must be above 0"),
        (["--hours", "a month"], "hours must be a number"),
        (["--engine", "oracle"], "engine must be valkey"),
        (["cache.m5.large", "--region", "mars-1"], "there are prices of unstated, us-east-1"),
        (["--prices", "/does/not/exist"], "cannot read"),
        (["--groups", "cache.m5.large"], "takes no node type"),
        (["--groups", "--count", "2"], "no count"),
        (["--machine-usd-month", "3"], "goes with --groups"),
        (["--groups", "--machine-usd-month", "much"], "must be a number"),
        (["--groups", "--prices", "own.csv"], "cost import. adds to them"),
    ],
)
def test_what_cannot_be_priced_is_refused_in_one_sentence(arguments: list[str], wrong: str) -> None:
    with pytest.raises(Refused, match=wrong) as refused:
        top(["cost", *arguments])
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("state")
def test_the_cost_of_what_runs_needs_the_service() -> None:
    with pytest.raises(Refused, match="the service is down") as refused:
        top(["cost", "--groups"])
    assert refused.value.code == SERVICE_DOWN


def test_imported_prices_stand_beside_the_packages_and_over_older_ones(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, state: Path
) -> None:
    file = tmp_path / "index.csv"
    file.write_text(CSV.replace("2025-06-24", "2027-01-01").replace("us-east-1", "eu-west-1"))
    assert "2 prices of 2027-01-01 read, 2 imported prices kept" in run(capsys, "import", str(file))
    file = tmp_path / "index.json"
    terms = {"OnDemand": {"A": {"A.1": term("0.5")}}}
    file.write_text(json.dumps(offer(terms=terms, publicationDate="2027-01-01T00:00:00Z")))
    page = json.loads(run(capsys, "import", str(file), "--json"))
    assert (page["read"], page["kept"], page["as_of"]) == (1, 3, "2027-01-01")
    assert "1 price of 2027-01-01 read, 3 imported prices kept" in run(capsys, "import", str(file))
    found = {(r["region"], r["engine"], r["model"]): r for r in rows(capsys, "cache.c7gn.large")}
    assert found["us-east-1", "valkey", "on-demand"]["usd_per_hour"] == 0.5
    assert "SKU A" in found["us-east-1", "valkey", "on-demand"]["source"]
    assert found["eu-west-1", "valkey", "on-demand"]["usd_per_hour"] == 0.204
    assert found["us-east-1", "redis", "on-demand"]["usd_per_hour"] == 0.255
    assert [path.name for path in state.iterdir()] == [IMPORTED]


def test_an_older_file_does_not_hide_newer_prices(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, state: Path
) -> None:
    file = tmp_path / "index.json"
    file.write_text(json.dumps(offer(terms={"OnDemand": {"A": {"A.1": term("0.5")}}})))
    run(capsys, "import", str(file))
    (row,) = rows(capsys, "cache.c7gn.large", "--engine", "valkey", "--region", "us-east-1")[:1]
    assert (row["usd_per_hour"], row["as_of"]) == (0.204, "2026-10-02")


def test_a_damaged_file_leaves_the_imported_prices_as_they_were(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, state: Path
) -> None:
    file = tmp_path / "index.json"
    file.write_text(json.dumps(offer()))
    run(capsys, "import", str(file))
    before = (state / IMPORTED).read_bytes()
    for text in (json.dumps(offer())[:-50], json.dumps(offer(products={})), "\ufeff", "node_type,what\n"):
        file.write_text(text)
        with pytest.raises(Refused, match=r"index\.json"):
            top(["cost", "import", str(file)])
    file.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(Refused, match="unpack it first"):
        top(["cost", "import", str(file)])
    assert (state / IMPORTED).read_bytes() == before


@pytest.mark.usefixtures("state")
def test_a_file_of_the_moment_adds_prices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text(
        "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\n"
        "cache.m5.large,eu-west-1,memcached,on-demand,0.1,,my bill,2026-11-01\n"
    )
    found = rows(capsys, "cache.m5.large", "--prices", str(file), "--region", "eu-west-1")
    assert [(r["usd"], r["source"]) for r in found] == [(73.0, "my bill")]


def test_what_runs_is_shown_at_awss_price_and_at_ours() -> None:
    known = {"id": "demo", "engine": "valkey", "node_type": "cache.m5.large", "nodes": 2, "region": "us-east-1"}
    unknown = {**known, "id": "prod", "engine": None, "node_type": None, "usd": None, "known": False}
    page = {
        "resources": [{**known, "usd": 182.208, "known": True}, unknown],
        "usd": 182.208,
        "notes": ["nobody said which node type [prod] has"],
        "here": {"usd": 20.0, "machine_usd_month": 80.0, "memory_share": 0.25, "cpu_share": None},
    }
    out = StringIO()
    show_running(Console(file=out, width=120), page)
    text = out.getvalue()
    assert "nobody said which node type [prod] has" in text
    assert "At AWS 182.21 USD in all, of those that are known" in text
    assert "Here 20.00 USD of the 80.00 that the machine costs a month; it takes 25.0 % of its memory" in text
    assert "an unknown share of its CPU" in text
    assert [line.split()[:3] for line in text.splitlines()[1:3]] == [
        ["demo", "Valkey", "cache.m5.large"],
        ["prod", "unknown", "unknown"],
    ]


def test_without_any_known_price_the_sum_is_unknown_and_so_is_a_machine_of_no_stated_cost() -> None:
    cost = {"id": "far", "engine": "valkey", "node_type": "cache.m5.large", "nodes": 1, "region": "eu-west-1"}
    here = {"usd": None, "machine_usd_month": None, "memory_share": 0.25, "cpu_share": 0.1}
    page = {"resources": [{**cost, "usd": None, "known": False}], "usd": None, "notes": [], "here": here}
    out = StringIO()
    show_running(Console(file=out, width=120), page)
    text = out.getvalue()
    assert "At AWS unknown: the price of none of them is known\n" in text
    assert "Here unknown: what this machine costs is not stated, set CACHEKEEP_MACHINE_USD_MONTH; it takes 25.0" in text


def test_what_a_killed_import_left_is_cleared_away_and_never_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, state: Path
) -> None:
    file = tmp_path / "index.json"
    file.write_text(json.dumps(offer()))
    run(capsys, "import", str(file))
    (state / "prices.4711.partial").write_text("node_type,reg")
    assert rows(capsys, "cache.c7gn.large")
    run(capsys, "import", str(file))
    assert [path.name for path in state.iterdir()] == [IMPORTED]


@pytest.mark.slow
def test_an_import_that_is_killed_leaves_the_old_prices(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, state: Path
) -> None:
    file = tmp_path / "index.json"
    file.write_text(json.dumps(offer()))
    run(capsys, "import", str(file))
    before = (state / IMPORTED).read_bytes()
    file.write_text(" " * 60_000_000 + json.dumps(offer(publicationDate="2027-01-01T00:00:00Z")))
    command = [sys.executable, "-m", "cachekeep", "cost", "import", str(file)]
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
        while str(file) not in {opened.path for opened in process.open_files()}:
            assert process.poll() is None
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert (state / IMPORTED).read_bytes() == before
    assert [path.name for path in state.iterdir()] == [IMPORTED]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            json.dumps(offer(offerCode="AmazonEC2")),
            "not the offer file of AmazonElastiCache .its offer code is 'AmazonEC2'",
        ),
        (json.dumps(offer())[: len(json.dumps(offer())) // 2], "damaged or cut off"),
        ("{" * 100_000, "damaged"),
        ("[1, 2, 3]", "neither the JSON nor the CSV form"),
        ("<html>503</html>", "neither the JSON nor the CSV form"),
        ("", "the file is empty"),
        (CSV[: CSV.rindex(",")], "damaged or cut off: a line has"),
        (CSV.rstrip()[:-1], "damaged"),
        ("node_type,region\ncache.m5.large,us-east-1\n", "lacks the column engine"),
        (
            "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\na,b,valkey,on-demand,-1,,x,\n",
            "line 2",
        ),
    ],
)
def test_what_is_no_offer_file_is_refused_in_a_sentence(tmp_path: Path, state: Path, text: str, wrong: str) -> None:
    file = tmp_path / "index"
    file.write_text(text)
    with pytest.raises(Refused, match=wrong) as refused:
        top(["cost", "import", str(file)])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    assert not state.exists()


@pytest.mark.slow
def test_a_large_offer_file_is_read_in_little_memory(tmp_path: Path, state: Path) -> None:
    file = tmp_path / "index.json"
    with file.open("w") as out:
        out.write(json.dumps(offer())[:-1])
        for n in range(400):
            out.write(f', "extra{n}": {json.dumps(["x" * 1000] * 1000)}')
        out.write("}")
    assert file.stat().st_size > 400_000_000
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20)); "
    command = "from cachekeep.cli.main import main; main(['cost', 'import', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", limited + command, str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (state / IMPORTED).exists()
