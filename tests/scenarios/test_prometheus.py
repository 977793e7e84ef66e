"""`/metrics` of a running service: who may read it, what is in it, and that rules and panels ask for what is there."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from cachekeep import credentials
from cachekeep.cli.prometheus import config_lines
from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.continuous import CONTINUOUS_TAG
from cachekeep.plan.alert_rules import alert_rules
from cachekeep.report.grafana import dashboard
from tests.promql import names, parse

from .conftest import Service, connect, create_cluster, create_group, wait_for

# Of the last whole minute, so not there in the first one.
OF_A_MINUTE = ("cachekeep_cache_hit_rate_percent", "_latency_microseconds", "_latency_microseconds_bucket")


# What Prometheus would say if it were up.
_STARTING: dict[str, list[Any]] = {"result": [], "activeTargets": [], "groups": []}


def ask(service: Service, headers: dict[str, str], method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"{service.url}/metrics", headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, {name.lower(): value for name, value in refused.headers.items()}, refused.read()


def bearer(service: Service) -> dict[str, str]:
    return {"Authorization": f"Bearer {credentials.load_token(service.state_dir)}"}


def signed(service: Service, scope: str) -> dict[str, str]:
    key = credentials.load(service.state_dir)
    request = AWSRequest("GET", f"{service.url}/metrics")
    SigV4Auth(Credentials(key.id, key.secret), scope, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def scraped(service: Service) -> dict[str, dict[str, float]]:
    """Name -> cluster ("" for the service's own) -> value."""
    status, _, page = ask(service, bearer(service))
    assert status == 200
    found: dict[str, dict[str, float]] = {}
    for family in read_text(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels.get("cluster", "")] = sample.value
    return found


def test_the_token_opens_the_page_in_both_formats(service: Service) -> None:
    status, headers, page = ask(service, bearer(service))
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "cachekeep_service_info" in {sample.name for family in read_text(page.decode()) for sample in family.samples}
    wished = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
    status, headers, page = ask(service, bearer(service) | wished)
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {"cachekeep_service", "process_cpu_seconds"} <= {family.name for family in read_open_metrics(page.decode())}


def test_it_is_compressed_for_those_who_say_so(service: Service) -> None:
    _, headers, page = ask(service, bearer(service) | {"Accept-Encoding": "br;q=1.0, gzip;q=0.5"})
    assert headers["content-encoding"] == "gzip"
    assert b"cachekeep_service_info" in gzip.decompress(page)
    _, headers, _ = ask(service, bearer(service) | {"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in headers


def test_head_answers_without_a_body(service: Service) -> None:
    status, _, page = ask(service, bearer(service), "HEAD")
    assert (status, page) == (200, b"")
    assert ask(service, {}, "HEAD")[0] == 401


def test_a_signature_of_our_own_service_opens_it_and_that_of_another_does_not(service: Service) -> None:
    assert ask(service, signed(service, "cachekeep"))[0] == 200
    status, _, page = ask(service, signed(service, "elasticache"))
    assert (status, page) == (401, b"The signature must be scoped to the service 'cachekeep'.\n")


@pytest.mark.parametrize(
    "given", ["", "Bearer ", "Bearer wrong", "Bearer \xe9", "Basic YTpi", "AWS4-HMAC-SHA256 nonsense"], ids=repr
)
def test_anything_else_is_refused_with_a_sentence(service: Service, given: str) -> None:
    status, headers, page = ask(service, {"Authorization": given} if given else {})
    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="cachekeep"'
    assert len(page) > 20
    assert credentials.load_token(service.state_dir).encode() not in page


def test_the_token_is_the_owners_alone_and_in_no_log(service: Service) -> None:
    path = service.state_dir / credentials.TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in service.log.read_text()


def test_rules_and_panels_ask_for_what_is_there(service: Service, ec: Any, created: Any, name: str) -> None:
    group = create_group(ec, created, name, Tags=[{"Key": CONTINUOUS_TAG, "Value": "24h"}])
    client = connect(group["NodeGroups"][0]["PrimaryEndpoint"])
    client.set("key", "value", ex=1000)
    client.get("key")
    rules = yaml.safe_load(alert_rules(thresholds(), metrics()))["groups"][0]["rules"]
    used = [rule["expr"] for rule in rules]
    for panel in dashboard(thresholds(), metrics())["panels"]:
        used += [target["expr"] for target in panel.get("targets", ())]
    wanted = {metric for text in used for metric in names(parse(text)) if not metric.endswith(OF_A_MINUTE)}
    assert len(wanted) > 20
    missing = wanted

    def all_there() -> bool:
        nonlocal missing
        missing = wanted - set(scraped(service))
        return not missing

    with suppress(AssertionError):
        wait_for(all_there, 60)
    assert missing == set()
    found = scraped(service)
    assert found["cachekeep_is_master"][f"{name}-001"] == 1
    assert found["cachekeep_is_master"][f"{name}-002"] == 0
    assert {found["cachekeep_node_up"][f"{name}-00{number}"] for number in (1, 2)} == {1.0}


def test_counters_grow_with_what_happens(service: Service, ec: Any, created: Any, name: str) -> None:
    client = connect(create_cluster(ec, created, name, Engine="valkey", NumCacheNodes=1)["CacheNodes"][0]["Endpoint"])
    hits = "cachekeep_cache_hits_total"
    wait_for(lambda: name in scraped(service).get(hits, {}))
    before = scraped(service)[hits][name]
    client.set("key", "value")
    for _ in range(25):
        client.get("key")
    wait_for(lambda: scraped(service)[hits][name] >= before + 25)
    assert scraped(service)[hits][name] == before + 25


def test_a_node_that_hangs_is_down_and_has_no_values(service: Service, ec: Any, created: Any, name: str) -> None:
    create_cluster(ec, created, name, Engine="valkey", NumCacheNodes=1)
    wait_for(lambda: scraped(service).get("cachekeep_node_up", {}).get(name) == 1.0)
    assert name in scraped(service)["cachekeep_curr_connections"]
    (pid,) = service.engines(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: scraped(service)["cachekeep_node_up"][name] == 0.0)
        found = scraped(service)
        assert name not in found.get("cachekeep_curr_connections", {})
        assert name not in found.get("cachekeep_cache_hits_total", {})
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: scraped(service)["cachekeep_node_up"][name] == 1.0)


@pytest.mark.slow
def test_a_real_prometheus_scrapes_it_and_takes_every_rule_and_panel(
    service: Service, ec: Any, created: Any, name: str, tmp_path: Path
) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus (Debian: apt-get install prometheus)")
    create_group(ec, created, name)
    (tmp_path / "rules.yml").write_text(alert_rules(thresholds(), metrics()))
    lines = config_lines(service.url, str(service.state_dir / credentials.TOKEN_FILE))
    text = "\n".join(lines).replace("15s", "1s")
    globals_ = "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
    (tmp_path / "prometheus.yml").write_text(f"{globals_}{text}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={url[7:]}"]
    running = subprocess.Popen([program, *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(_answered(url, "query", query=f'cachekeep_node_up{{group="{name}"}} == 1')["result"]) == 2)
        (target,) = _answered(url, "targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        for panel in dashboard(thresholds(), metrics())["panels"]:
            for shown in panel.get("targets", ()):
                query = shown["expr"].replace("$__rate_interval", "1m").replace("$region", ".*")
                _answered(url, "query", query=query.replace("$group", ".*").replace("$cluster", ".*"))
        rules: list[dict[str, Any]] = []

        def evaluated() -> bool:
            rules[:] = _answered(url, "rules")["groups"][0]["rules"]
            return all(rule["health"] != "unknown" for rule in rules)

        wait_for(evaluated)
        assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
        firing = {rule["name"] for rule in rules if rule["alerts"]}
        assert "CachekeepNodeDown" not in firing
    finally:
        running.terminate()
        running.wait(20)


def _answered(url: str, path: str, **query: str) -> Any:
    """The data of Prometheus's answer; fails with what it says of a query that it does not take."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as refused:
        with refused:
            if refused.code == 503:
                return _STARTING
            raise AssertionError(f"{query}: {refused.read()!r}") from refused
    except urllib.error.URLError:
        return _STARTING
