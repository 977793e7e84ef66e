"""Cost and right-sizing of what really runs, through the command and the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cachekeep.cli.main import main

from .conftest import Service, connect, create_cluster, create_group, wait_for


class Cli:
    """The whole command in this process: starting one takes seconds on a busy machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def ends_well(self, service: Service, *arguments: str) -> bool:
        return self._run(service, *arguments)[0] == 0

    def __call__(self, service: Service, *arguments: str, code: int = 0) -> str:
        """What it prints; on stderr where it is to fail."""
        ended, out, err = self._run(service, *arguments)
        assert ended == code, err or out[:1500]
        return err if code else out

    def page(self, service: Service, *arguments: str) -> Any:
        """With --json. A load that is not known yet is answered too, with exit code 1."""
        ended, out, err = self._run(service, *arguments, "--json")
        assert ended in (0, 1), err
        assert not err
        return json.loads(out)

    def _run(self, service: Service, *arguments: str) -> tuple[Any, str, str]:
        self._monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(service.state_dir))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return ended.value.code, *self._capsys.readouterr()


@pytest.fixture
def cachekeep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("COLUMNS", "180")
    return Cli(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("node_type", "usd", "regions"),
    [
        ("cache.m5.large", 118.99, {"unstated", "us-east-1"}),
        ("cache.m7g.large", 119.72, {"unstated", "us-east-1"}),
    ],
)
def test_the_seeds_two_examples_are_among_all_known_prices_of_their_type(
    cachekeep: Cli, new_service: Any, node_type: str, usd: float, regions: set[str]
) -> None:
    rows = cachekeep.page(new_service(), "cost", node_type)["rows"]
    assert {row["node_type"] for row in rows} == {node_type}
    assert {row["region"] for row in rows} == regions
    seed = next(row for row in rows if row["region"] == "unstated")
    assert (seed["usd"], seed["engine"], seed["model"]) == (usd, "redis", "on-demand")
    assert seed["formula"].endswith(f"x 730 hours in a month = {usd:.4f} USD")
    known = {row["engine"] for row in rows if row["known"]}
    assert {"redis", "valkey"} <= known


def test_what_runs_is_priced_and_sized(
    cachekeep: Cli, service: Service, name: str, created: list[tuple[str, str]], ec: Any
) -> None:
    group = create_group(ec, created, name, CacheNodeType="cache.m5.large")
    create_cluster(ec, created, f"{name}-mc", Engine="memcached", CacheNodeType="cache.m4.large", NumCacheNodes=2)
    client = connect(group["NodeGroups"][0]["PrimaryEndpoint"])
    client.set("large", "x" * 30_000_000)

    costs = cachekeep.page(service, "cost", "--groups", "--machine-usd-month", "100")
    mine = {cost["id"]: cost for cost in costs["resources"] if cost["id"].startswith(name)}
    assert (mine[name]["nodes"], mine[name]["usd"], mine[name]["kind"]) == (2, 182.208, "group")
    assert (mine[f"{name}-mc"]["nodes"], mine[f"{name}-mc"]["usd"]) == (2, 227.76)
    assert 0 < costs["here"]["memory_share"] < 1
    assert costs["here"]["usd"] > 0
    assert f"{name} " in cachekeep(service, "cost", "--groups")

    def sized() -> Any:
        found = cachekeep.page(service, "right-size", name)
        return found if (found["observed"]["used_bytes"] or 0) > 30_000_000 else None

    found = wait_for(sized)
    assert found["confidence"] == "low"
    assert found["notes"]
    assert found["candidates"][0]["usd_month"] < found["present"]["usd_month"] == 182.208
    assert found["present"]["usd_month_by_engine"] == {"valkey": 182.208, "redis": 227.76}
    wide = cachekeep.page(service, "right-size", name, "--margin", "100", "--horizon-days", "0", "--window-days", "1")
    assert wide["need_bytes"] == pytest.approx(2 * wide["observed"]["used_bytes"])
    assert "would hold it" in cachekeep(service, "right-size", f"{name}-001")
    wait_for(lambda: cachekeep.ends_well(service, "right-size", f"{name}-mc"))
    assert "assumed:" in cachekeep(service, "right-size", f"{name}-mc")
    assert "no group, cluster or watched target 'nobody'" in cachekeep(service, "right-size", "nobody", code=1)


def test_a_watched_cache_is_priced_and_sized_by_the_node_type_that_was_said(
    cachekeep: Cli, service: Service, name: str, created: list[tuple[str, str]], ec: Any
) -> None:
    endpoint = create_group(ec, created, name)["NodeGroups"][0]["PrimaryEndpoint"]
    url, target = f"redis://{endpoint['Address']}:{endpoint['Port']}", f"{name}-w"
    cachekeep(service, "watch", "add", target, url, "--node-type", "cache.r7g.xlarge")

    def priced() -> Any:
        costs = cachekeep.page(service, "cost", "--groups")["resources"]
        return next((c for c in costs if c["id"] == target and c["nodes"] == 2 and c["known"]), None)

    cost = wait_for(priced)
    assert (cost["kind"], cost["engine"], cost["usd"]) == (
        "watched",
        "valkey",
        pytest.approx(2 * 730 * cost["usd_per_hour"]),
    )

    def sized() -> Any:
        page = cachekeep.page(service, "right-size", target)
        return page if page["candidates"] else None

    page = wait_for(sized)
    assert (page["kind"], page["present"]["node_type"], page["observed"]["replicas"]) == (
        "watched",
        "cache.r7g.xlarge",
        1,
    )
    cachekeep(service, "watch", "remove", target)


def test_prices_imported_while_the_service_runs_count_at_once(
    cachekeep: Cli, service: Service, name: str, created: list[tuple[str, str]], ec: Any, tmp_path: Path
) -> None:
    create_cluster(ec, created, name, Engine="memcached", CacheNodeType="cache.r4.large", NumCacheNodes=1)

    def mine(*more: str) -> Any:
        costs = cachekeep.page(service, "cost", "--groups", *more)["resources"]
        return next(cost for cost in costs if cost["id"] == name)

    assert mine()["usd"] is None
    file = tmp_path / "own.csv"
    file.write_text(
        "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\n"
        "cache.r4.large,us-east-1,memcached,on-demand,1,,my bill,2027-01-01\n"
    )
    assert "1 imported price kept" in cachekeep(service, "cost", "import", str(file))
    assert (mine("--hours", "10")["usd"], mine()["source"]) == (10.0, "my bill")
    assert cachekeep.page(service, "right-size", name)["present"]["usd_month"] == 730.0


@pytest.mark.slow
def test_a_measured_minute_is_sized_by_its_peaks(
    cachekeep: Cli, service: Service, name: str, created: list[tuple[str, str]], ec: Any
) -> None:
    group = create_group(ec, created, name, CacheNodeType="cache.m5.large")
    client = connect(group["NodeGroups"][0]["PrimaryEndpoint"])

    def measured() -> Any:
        for number in range(500):
            client.set(f"key{number}", "x" * 1000)
        found = cachekeep.page(service, "right-size", name)
        return found if found["history"]["from"] and found["observed"]["ops_per_s"] else None

    found = wait_for(measured, 200)
    assert found["observed"]["engine_cpu_pct"] is not None
    assert found["observed"]["bytes_in_per_s"] > 1000
    assert any("of history: the peaks of a day" in note for note in found["notes"])
