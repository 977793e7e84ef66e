"""The service's clock is an hour off, one way and the other, and set right while it runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Service, connect, create_cluster, wait_for
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
