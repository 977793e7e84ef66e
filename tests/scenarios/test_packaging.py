"""The built wheel, installed in an environment of its own and run from outside the checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from .conftest import Service, connect, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make build` does."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel; its dependencies are those of this one, so that no network is needed. Its bin folder."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    # A folder that a .pth file adds is searched after the venv's own, and its .pth files, with them the editable
    # checkout, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


class Installed(Service):
    """A Service that `cachekeep up` of the installed wheel starts, in a folder far from the checkout."""

    bin: Path

    def run(self, *arguments: str) -> str:
        environment = {k: v for k, v in self.environment.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            [str(self.bin / "cachekeep"), *arguments],
            env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def installed(elsewhere: Path, tmp_path: Path, loopback_range: IPv4Network) -> Iterator[Installed]:
    it = Installed(tmp_path / "state", next(iter(loopback_range.subnets(new_prefix=27))))
    it.bin = elsewhere
    yield it
    it.run("down")
    it.dispose()


def test_the_wheel_carries_its_data_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("node_memory.csv", "node_types.csv", "families/valkey9.json"):
        assert f"cachekeep/data/{name}" in names
    for name in ("templates/base.html", "static/page.js", "static/vendor/htmx.min.js", "static/vendor/htmx.LICENSE"):
        assert f"cachekeep/web/{name}" in names
    assert "cachekeep/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not re.match(r"cachekeep(/|-[0-9.]+\.dist-info/)", name)]


def test_the_installed_wheel_serves_a_group_from_outside_the_checkout(installed: Installed) -> None:
    assert re.fullmatch(r"cachekeep [0-9]+\.[0-9]+\.[0-9]+\n", installed.run("--version"))
    code = "import cachekeep; print(cachekeep.__file__)"
    where = subprocess.run(
        [str(installed.bin / "python"), "-P", "-c", code], cwd="/", env={}, capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(str(installed.bin.parent))
    installed.run("up")
    ec = installed.client()
    ec.create_replication_group(ReplicationGroupId="g", ReplicationGroupDescription="x", NumCacheClusters=2)
    group = wait_for(
        lambda: next(
            (g for g in ec.describe_replication_groups()["ReplicationGroups"] if g["Status"] == "available"), None
        )
    )
    endpoint = group["NodeGroups"][0]["PrimaryEndpoint"]
    connect(endpoint).set("greeting", "hello")
    assert connect(endpoint).get("greeting") == "hello"
    programs = {str(Path(f"/proc/{pid}/cwd").readlink()) for pid in installed.engines()}
    assert programs == {str(installed.nodes_root / f"us-east-1/g-00{n}/0001") for n in (1, 2)}
    assert "available" in installed.run("status")
    assert "the data is saved" in installed.run("down")
