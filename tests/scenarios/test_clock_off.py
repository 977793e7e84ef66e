"""The service's clock is an hour off, one way and the other, and set right while it runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import valkey
from botocore.exceptions import ClientError

from cachekeep import credentials
from tests.iam_tokens import make_token

from .conftest import Service, connect, create_cluster, create_group, wait_for
from .test_iam_tokens import enter, iam_user, refused, user_group
from .test_snapshots import take
from .test_snapshots_interrupted import generations

pytestmark = pytest.mark.slow
HOUR_S = 3600


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    made = tmp_path / "shifted_clock.so"
    source = Path(__file__).parent / "shifted_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True, timeout=60)
    return made


def _refused(ec: Any) -> str:
    with pytest.raises(ClientError) as caught:
        ec.describe_cache_clusters()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(caught.value.response["Error"]["Code"])


def _daily(ec: Any) -> list[dict[str, Any]]:
    return list(ec.describe_snapshots(SnapshotSource="system")["Snapshots"])


def _window(begins: datetime) -> str:
    return f"{begins:%H:%M}-{begins + timedelta(hours=1):%H:%M}"


def test_an_hour_both_ways(new_service: Callable[..., Service], shim: Path, tmp_path: Path) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0")
    service = new_service(LD_PRELOAD=str(shim), SHIFT_FILE=str(shift)).start()
    ec = service.client()
    endpoint = create_cluster(ec, [], "c")["CacheNodes"][0]["Endpoint"]
    connect(endpoint).set("a", "1")
    take(ec, "before", CacheClusterId="c")
    for seconds in (HOUR_S, -HOUR_S):
        shift.write_text(str(seconds))
        assert _refused(ec) in ("SignatureDoesNotMatch", "RequestExpired", "InvalidSignatureException")
        assert connect(endpoint).get("a") == "1"
        shift.write_text("0")
        assert ec.describe_cache_clusters()["CacheClusters"][0]["CacheClusterStatus"] == "available"
    # The daily snapshot comes by the service's clock, and not again when that is set right, whatever it was.
    begins = datetime.now(UTC) + timedelta(minutes=30)
    ec.modify_cache_cluster(CacheClusterId="c", SnapshotRetentionLimit=1, SnapshotWindow=_window(begins))
    shift.write_text(str(HOUR_S))
    wait_for(lambda: len(generations(service)) == 2, 60)
    shift.write_text("0")
    wait_for(lambda: [one["SnapshotStatus"] for one in _daily(ec)] == ["available"], 60)
    shift.write_text(str(-HOUR_S))
    service.kill()
    service.start()
    shift.write_text("0")
    assert len(_daily(ec)) == 1
    take(ec, "after", CacheClusterId="c")
    assert connect(endpoint).get("a") == "1"
    told = service.log.read_text()
    assert "Traceback" not in told
    assert "failed" not in told


def test_tokens_are_judged_by_the_services_clock_and_never_let_in_by_a_wrong_one(
    new_service: Callable[..., Service], shim: Path, tmp_path: Path
) -> None:
    """The engine's module has no clock of its own: it asks. A token that was good before is no good by then either."""
    shift = tmp_path / "shift"
    shift.write_text("0")
    service = new_service(LD_PRELOAD=str(shim), SHIFT_FILE=str(shift), CACHEKEEP_AUTH_WITHOUT_TLS="yes").start()
    ec = service.client()
    iam_user(ec, "dora")
    user_group(ec, "crew", "dora")
    group = create_group(ec, [], "gated", Engine="valkey", UserGroupIds=["crew"], NumCacheClusters=1)
    endpoint = group["NodeGroups"][0]["PrimaryEndpoint"]
    key = credentials.load(service.state_dir)

    def token(at_s: float) -> str:
        """Made so many seconds from now, by the clock that is right."""
        return make_token("gated", "dora", key.id, key.secret, at=datetime.now(UTC).timestamp() + at_s)

    good = token(0)
    assert enter(endpoint, "dora", good) == "dora"
    with valkey.Valkey(host=endpoint["Address"], port=endpoint["Port"], username="dora", password=good) as inside:
        inside.ping()
        for seconds in (HOUR_S, -HOUR_S):
            shift.write_text(str(seconds))
            assert refused(endpoint, "dora", good), "known as good a moment ago"
            assert refused(endpoint, "dora", token(0)), "right by the client's clock, not by the service's"
            assert enter(endpoint, "dora", token(seconds)) == "dora", "right by the service's"
            assert inside.ping(), "who is in stays in"
            shift.write_text("0")
            assert refused(endpoint, "dora", token(seconds)), "of the hour that was wrong"
            assert enter(endpoint, "dora", token(0)) == "dora"
    told = service.log.read_text()
    assert "an IAM token was refused" in told
    assert "Traceback" not in told
