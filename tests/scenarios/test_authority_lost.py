"""The authority is lost, cut or another one while caches with TLS serve: no primary is fenced for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import valkey

from cachekeep import credentials
from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.authority import Authority
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, create_group, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def secured(new_service: Callable[..., Service]) -> Service:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")
    return new_service(CACHEKEEP_HANG_TIMEOUT="1").start()


def _asked_in_vain(service: Service) -> int:
    return service.log.read_text().count("a node cannot be asked")


def test_a_primary_whose_connection_breaks_meanwhile_is_not_fenced(secured: Service) -> None:
    wish: dict[str, Any] = {"Engine": "redis", "AutomaticFailoverEnabled": True, "TransitEncryptionEnabled": True}
    group = create_group(secured.client(), [], "g", **wish)
    endpoint, before = group["NodeGroups"][0]["PrimaryEndpoint"], secured.engines()
    ca = secured.state_dir / "ca" / "ca.pem"
    good = ca.read_text()
    stranger = Authority(secured.state_dir.with_name("other")).certificate()
    own = valkey.Valkey(
        endpoint["Address"], endpoint["Port"], ssl=True, ssl_ca_data=good, username="cachekeep",
        password=credentials.load_engine_password(secured.state_dir),
    )  # fmt: skip
    own.ping()
    for number, text in enumerate((None, good[:200], stranger)):
        ca.unlink() if text is None else ca.write_text(text)
        # The replica is still known to be well: what would be promoted.
        own.client_kill_filter(_type="normal", skipme=True)
        wait_for(lambda number=number: _asked_in_vain(secured) > number, 60)
        # A fence comes with the next round after the silence; several of those have passed then.
        said = secured.client()
        for _ in range(20):
            assert said.describe_replication_groups()["ReplicationGroups"][0]["Status"] == "available"
        ca.write_text(good)
        wait_for(lambda: secured.engines() == before)
        wait_for(lambda: any(client["cmd"] == "role" for client in own.client_list()), 60)
    assert own.info("replication")["role"] == "master"
    assert secured.engines() == before
    assert "fencing" not in secured.log.read_text()
