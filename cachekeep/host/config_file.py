"""Renders what an engine is started with: `engine.conf` for Valkey and Redis, arguments for Memcached. Pure.

A value comes from a user's parameter group, so it must never become a second directive: every argument is
quoted, and a value that cannot be quoted is refused with ValueError.
Source: valkey config.c `loadServerConfigFromString`, sds.c `sdssplitargs`; Redis 6.2.5, 7.0.15, Valkey 8.1.8, 9.1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cachekeep.domain.access import MARKER, EngineLogin
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.nodes import NodeSpec
from cachekeep.domain.transit import CERTIFICATE, LINK_LIMIT, Transit, engine_directives

_DIRECTIVE = re.compile(r"[a-z][a-z0-9-]*\Z")
_OPTION = re.compile(r"-[A-Za-z]\Z|--[a-z][a-z-]*\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

# Who the node is and how it is watched. A parameter that set one of these would break adoption or the endpoint.
_OURS = frozenset(
    {"bind", "bind-source-addr", "port", "unixsocket", "unixsocketperm"}
    | {"dir", "dbfilename", "logfile", "pidfile", "syslog-enabled", "daemonize", "supervised", "set-proc-title"}
    | {"include", "loadmodule", "rename-command", "replicaof", "slaveof"}
    | {"aclfile", "requirepass", "masterauth", "masteruser", "primaryauth", "primaryuser"}
    | {"replica-announce-ip", "replica-announce-port", "slave-announce-ip", "slave-announce-port"}
    | {"appendfilename", "appenddirname"}
    | {"cluster-config-file", "cluster-port"}
    | {"cluster-announce-ip", "cluster-announce-port", "cluster-announce-tls-port", "cluster-announce-bus-port"}
    | {LINK_LIMIT}
    | set(engine_directives(Transit.REQUIRED, 0))
)
# Directives that may stand several times.
_REPEATED = frozenset({"client-output-buffer-limit", "save", "user"})
# Directives of several arguments: each word is an argument of its own (6.2 refuses them as one).
_WORDS = _REPEATED | {"oom-score-adj-values", "latency-tracking-info-percentiles"}
_BUS_ABOVE = 10_000
_MEMCACHED_OURS = frozenset(
    {"-l", "--listen", "-p", "--port", "-U", "--udp-port", "-s", "--unix-socket", "-a", "--unix-mask"}
    | {"-Z", "--enable-ssl", "-u", "--user", "-d", "--daemon", "-P", "--pidfile"}
    | {"-h", "--help", "-i", "--license", "-V", "--version"}
)


def engine_config(
    spec: NodeSpec,
    folder: Path,
    version: EngineVersion,
    login: EngineLogin | None = None,
    modules: Sequence[Sequence[str]] = (),
) -> str:
    """Return the text of `engine.conf`: who the node is, then our defaults overlaid with spec.config.

    version: of the program that will read it; directives that it does not know are left out. Raises ValueError
    on a directive that only Cachekeep sets, on a value that cannot be written safely, and in cluster mode on a port
    without a cluster bus or on spec.follow (whom to follow is said there by CLUSTER REPLICATE). login: the service's
    own user; None for an engine that nobody logs in to. modules: the path of each, and its arguments.
    """
    for name in spec.config:
        if name in _OURS:
            raise ValueError(f"{name} is set by Cachekeep and cannot be configured")
    lines = ["# Written by Cachekeep at every start of this node: changes are lost."]
    ours = _identity(spec, folder, version)
    clustered = spec.clustered
    if clustered:
        ours |= _place_in_cluster(spec, version)
    for name, value in {**ours, **_defaults(version), **spec.config}.items():
        lines.extend(directive(name, value))
    if spec.follow is not None:
        if clustered:
            raise ValueError(f"{spec.key} is to follow {spec.follow}, which in cluster mode no file can say")
        # Not an argument of the command line: 6.2 takes `host port` there as one word and refuses it.
        lines.append(f"replicaof {_quoted(spec.follow.host)} {spec.follow.port}")
    if login is not None:
        lines.extend(_users(spec, login))
    lines.extend(f"loadmodule {' '.join(map(_quoted, words))}" for words in modules)
    return "\n".join(lines) + "\n"


def _users(spec: NodeSpec, login: EngineLogin) -> Iterator[str]:
    """Who may log in, and as whom this node logs in to its primary and to nodes that it gives slots to."""
    if spec.link:
        # The names that all versions know.
        yield f"masteruser {_quoted(login.username)}"
        yield f"masterauth {_quoted(login.link_password(spec.link))}"
    marker = (MARKER + spec.acl, "off")
    for words in ((login.username, *login.rules(spec.link)), *spec.users, marker):
        yield " ".join(("user", *(_quoted(word) for word in words)))


def _identity(spec: NodeSpec, folder: Path, version: EngineVersion) -> dict[str, str]:
    host, port = spec.address.host, str(spec.address.port)
    identity = {
        "bind": host,
        "port": port,
        # Without these a primary sees every replica of this machine as 127.0.0.1.
        "replica-announce-ip": host,
        "replica-announce-port": port,
        "dir": str(folder),
        "dbfilename": "dump.rdb",
        "logfile": "engine.log",
        "pidfile": str(folder / "engine.pid"),
        "daemonize": "no",
        "supervised": "no",
        # Otherwise the engine overwrites its arguments and environment, and with it our mark.
        "set-proc-title": "no",
    }
    if version.numbers >= (7, 2):
        # 6.2 does not know it. In 7.0 protected mode takes only 127.0.0.1 itself for local and would refuse a
        # replica that calls from 127.64.0.7 ("-DENIED"); the announced address has to do there.
        identity["bind-source-addr"] = host
    if spec.transit.encrypted:
        identity |= engine_directives(spec.transit, spec.address.port)
    return identity


def _place_in_cluster(spec: NodeSpec, version: EngineVersion) -> dict[str, str]:
    host, port = spec.address.host, spec.address.port
    bus = bus_port(port, version)
    place = {
        "cluster-config-file": "nodes.conf",
        "cluster-announce-ip": host,
        "cluster-announce-port": str(port),
        "cluster-announce-bus-port": str(bus),
    }
    if version.major >= 7:
        place["cluster-port"] = str(bus)
    if spec.transit.encrypted or spec.transit_moves:
        place["cluster-announce-tls-port"] = str(port)
    return place


def bus_port(port: int, version: EngineVersion) -> int:
    """The port of the cluster bus: 10,000 above the node's, or below where there is none. Raises ValueError."""
    if port + _BUS_ABOVE < 65536:
        return port + _BUS_ABOVE
    if version.major >= 7:
        return port - _BUS_ABOVE
    raise ValueError(
        f"before version 7.0 the cluster bus of port {port} would be {port + _BUS_ABOVE}, which is no port; "
        f"use a port up to {65535 - _BUS_ABOVE}"
    )


def _defaults(version: EngineVersion) -> dict[str, str]:
    defaults = {
        # Older engines take only 127.0.0.1 itself for local and refuse a replica that calls from its own loopback
        # address. Nothing is exposed by that: every address that a node listens on is a loopback address.
        "protected-mode": "yes" if version.numbers >= (7, 2) else "no",
        "tcp-backlog": "511",
        "save": "",
        "appendonly": "no",
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": "0",
        # An empty replica loads from the socket. Through a file, Valkey 9 notices the end of the download only in
        # its cron, up to a second later. One that holds data still keeps it until the file is complete.
        "repl-diskless-load": "on-empty-db",
        "rdb-del-sync-files": "yes",
        "always-show-logo": "no",
    }
    if version.major >= 7:
        defaults["enable-debug-command"] = "no"
    return defaults


def directive(name: str, value: str) -> Iterator[str]:
    """Yield the line or lines of one directive. Raises ValueError when name or value cannot be written safely."""
    if not _DIRECTIVE.match(name):
        raise ValueError(f"not the name of a directive: {name!r}")
    lines = _save_lines(value) if name == "save" else value.split("\n")
    if len(lines) > 1 and name not in _REPEATED:
        raise ValueError(f"the value of {name} holds a line break: {value!r}")
    for line in lines:
        words = line.split(" ") if name in _WORDS and line else [line]
        yield " ".join((name, *(_quoted(word) for word in words if word or not line)))


def _save_lines(value: str) -> list[str]:
    """A line for each pair of seconds and changes: 6.2 takes no more of them on one."""
    words = value.split()
    return [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)] or [""]


def _quoted(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError(f"holds a control character: {text!r}")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def memcached_arguments(spec: NodeSpec, run_as: str | None) -> list[str]:
    """Return the arguments for memcached. run_as: the user to name when started by root, who is refused otherwise.

    Raises ValueError on an option that only Cachekeep sets, or on a value that would be read as an option.
    """
    arguments = ["-l", spec.address.host, "-p", str(spec.address.port), "-U", "0"]
    if spec.transit.encrypted:
        arguments += ["-Z", "-o", f"ssl_chain_cert={CERTIFICATE},ssl_key={CERTIFICATE}"]
    if run_as is not None:
        arguments += ["-u", run_as]
    for option, value in _checked(spec.config):
        arguments += [option, value] if value else [option]
    return arguments


def _checked(config: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for option, value in config.items():
        if not _OPTION.match(option):
            raise ValueError(f"not an option of memcached: {option!r}")
        # getopt_long takes any unambiguous beginning of a long option: `--daem` is `--daemon`.
        shortened = option.startswith("--") and any(ours.startswith(option) for ours in _MEMCACHED_OURS)
        if option in _MEMCACHED_OURS or shortened:
            raise ValueError(f"{option} is set by Cachekeep and cannot be configured")
        if value.startswith("-") or _UNPRINTABLE.search(value):
            raise ValueError(f"not a value for memcached {option}: {value!r}")
        yield option, value
