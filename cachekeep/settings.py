"""Settings: from options, environment variables (`CACHEKEEP_*`) and a TOML file (`CACHEKEEP_CONFIG`), in that order."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from cachekeep.codec.aws_model import known_regions
from cachekeep.codec.subscriber import web_url
from cachekeep.domain.notifications import Smtp
from cachekeep.domain.quotas import Quotas

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ACCOUNT = re.compile(r"[0-9]{12}\Z")
# Source: S3 guide, "Bucket naming rules".
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
# The address_range that asks for ports of 127.0.0.1 instead of addresses.
PORTS = "ports"
# Least and most of the settings that are numbers with a fraction.
_BOUNDS = {
    "overcommit": (0.1, 1000.0),
    "hang_timeout": (0.5, 3600.0),
    "rollback_hours": (0.0, 168.0),
    "sync_timeout": (5.0, 86400.0),
    "metrics_fine_days": (1, 3650),
    "metrics_middle_days": (1, 3650),
    "metrics_days": (1, 3650),
    "machine_usd_month": (0.0, 1e7),
    "certificate_hours": (0.01, 9000.0),
    "snapshots_per_day": (1, 10_000),
    "api_rate": (0.0, 1e6),
    "serverless_headroom_mb": (8.0, 1e6),
    "serverless_shard_mb": (16.0, 1e6),
    "serverless_calm": (1.0, 86400.0),
}


class SettingsError(Exception):
    """A setting that cannot be used; the text names it and says what it must be."""


def _default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "cachekeep"


@dataclass(frozen=True)
class Settings:
    """state_dir: everything that Cachekeep keeps. port: of the API, on 127.0.0.1. access_keys: further accepted
    pairs (id -> secret) beside the generated one. address_range: loopback network for nodes and endpoints, or
    `ports` for 127.0.0.1 with a port for each node (then endpoints are the addresses of the nodes in that role).
    overcommit: how many times the machine's memory may be promised to nodes. redis_stand_in: let Valkey run where
    Redis is asked for and none is installed. region: the one that `cachekeep env` prints.
    hang_timeout: seconds without an answer after which a living engine counts as hung and is replaced.
    rollback_hours: for how long the former instances of an upgraded group are kept, so that it can be taken back.
    sync_timeout: seconds that a coming instance may take to be in sync before its change is abandoned.
    metrics_fine_days, metrics_middle_days, metrics_days: for how long points of 1, 5 and 60 minutes are kept.
    smtp_url: the mail server for notices, smtp://user:password@host:port (smtps://: TLS from the first byte;
    ?starttls=no: without TLS; ?ca_file=PATH). smtp_sender: whom they come from.
    machine_usd_month: what this machine costs a month, for comparing with AWS; 0 for not said.
    tls: the API is served over HTTPS, with a certificate of the installation's own authority.
    certificate_hours: the life of the certificates of API and nodes; they are renewed after two thirds of it.
    allowed_sources: who may connect to the API, addresses and networks separated by commas; empty for anybody who can.
    encrypted_state: the operator states that state_dir lies on an encrypted volume, where that cannot be seen.
    buckets: what stands for S3 buckets in CopySnapshot and SnapshotArns: name=/folder,name=s3://bucket/prefix.
    snapshots_per_day: manual snapshots of one node in 24 hours.
    quotas: where they are not AWS's default, `nodes-per-region=20,subnet-groups=5`; names in domain.quotas.
    api_rate: requests a second that one access key may make in one region, above which it is throttled; 0 for any.
    serverless_tls: how new serverless caches are encrypted in transit: preferred (TLS and plain on one port, where the
    engine found has TLS), required (nothing but TLS, or no cache), disabled.
    serverless_headroom_mb: room that a serverless cache has ahead of its data. serverless_shard_mb: what one shard
    of it shall hold at most. serverless_calm: seconds for which it must be too large before it shrinks.
    update_next_major: service updates offer versions of the next major version too.
    logs_endpoint: http(s) URL of a CloudWatch Logs API for log delivery, "" for files; logs_access_key: `id:secret` for
    it, "" for where AWS's clients look. firehose_url: where log delivery to Firehose is posted, "" for files;
    firehose_access_key: what is sent with it.
    auth_without_tls: let user groups and tokens guard caches without TLS, which AWS never does: everything listens on
    loopback addresses, so nobody but this machine hears a password."""

    state_dir: Path = field(default_factory=_default_state_dir)
    port: int = 8600
    account_id: str = "000000000000"
    access_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    address_range: str = "127.64.0.0/16"
    overcommit: float = 8.0
    redis_stand_in: bool = False
    region: str = "us-east-1"
    log_level: str = "info"
    hang_timeout: float = 5.0
    rollback_hours: float = 1.0
    sync_timeout: float = 600.0
    metrics_fine_days: int = 15
    metrics_middle_days: int = 63
    metrics_days: int = 455
    smtp_url: str = field(default="", repr=False)
    smtp_sender: str = "cachekeep@localhost"
    machine_usd_month: float = 0.0
    tls: bool = False
    certificate_hours: float = 168.0
    allowed_sources: str = ""
    encrypted_state: bool = False
    buckets: str = ""
    snapshots_per_day: int = 20
    quotas: str = ""
    api_rate: float = 0.0
    serverless_tls: str = "preferred"
    serverless_headroom_mb: float = 1024.0
    serverless_shard_mb: float = 25600.0
    serverless_calm: float = 300.0
    update_next_major: bool = False
    logs_endpoint: str = ""
    logs_access_key: str = field(default="", repr=False)
    firehose_url: str = field(default="", repr=False)
    firehose_access_key: str = field(default="", repr=False)
    auth_without_tls: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise SettingsError(f"port must be between 1 and 65535, not {self.port}")
        if any(c in "*?[" or not c.isprintable() for c in str(self.state_dir)):
            raise SettingsError(
                f"state_dir must not contain *, ?, [ or control characters (engines read them as patterns): "
                f"{str(self.state_dir)!r}"
            )
        if not _ACCOUNT.match(self.account_id):
            raise SettingsError(f"account_id must be 12 digits, not {self.account_id!r}")
        if self.region not in known_regions():
            raise SettingsError(f"region must be a region of AWS such as us-east-1, not {self.region!r}")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise SettingsError(f"{name} must be between {least:g} and {most:g}, not {getattr(self, name):g}")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"log_level must be debug, info, warning or error, not {self.log_level!r}")
        if not self.uses_ports and (self.network.num_addresses < 16 or not self.network.is_loopback):
            raise SettingsError(
                f"address_range must be a loopback network with at least 16 addresses, not {self.address_range}"
            )

        if not self.metrics_fine_days <= self.metrics_middle_days <= self.metrics_days:
            raise SettingsError("metrics_fine_days, metrics_middle_days and metrics_days must not fall in this order")
        if self.serverless_tls not in ("preferred", "required", "disabled"):
            raise SettingsError("serverless_tls must be preferred, required or disabled")
        smtp_of(self.smtp_url, self.smtp_sender)
        source_networks(self.allowed_sources)
        _places_of(self.buckets)
        try:
            Quotas.parse(self.quotas)
        except ValueError as error:
            raise SettingsError(f"quotas: {error}") from None
        for name in ("logs_endpoint", "firehose_url"):
            if getattr(self, name) and web_url(getattr(self, name)) is None:
                raise SettingsError(f"{name} must be an http or https URL without a user in it")
        if self.logs_access_key and not all(self.logs_access_key.partition(":")):
            raise SettingsError("logs_access_key must be id:secret")

    @property
    def smtp(self) -> Smtp | None:
        """The mail server, None where none is set."""
        return smtp_of(self.smtp_url, self.smtp_sender)

    @property
    def bucket_places(self) -> Mapping[str, str]:
        """What stands for each bucket: a folder, or s3://bucket/prefix."""
        return _places_of(self.buckets)

    @property
    def uses_ports(self) -> bool:
        return self.address_range == PORTS

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The range; 127.0.0.0/8 where ports are used."""
        try:
            return ipaddress.IPv4Network("127.0.0.0/8" if self.uses_ports else self.address_range)
        except ValueError as error:
            raise SettingsError(f"address_range must be an IPv4 network such as 127.64.0.0/16: {error}") from None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def authority_dir(self) -> Path:
        """Where the installation's certificate authority lives."""
        return self.state_dir / "ca"

    @property
    def ca_file(self) -> Path:
        """What clients of the API trust, once there is an authority."""
        return self.authority_dir / "ca.pem"

    @property
    def sources(self) -> tuple[Network, ...]:
        """Networks that may connect to the API; none for no restriction."""
        return source_networks(self.allowed_sources)


# What a running service keeps until it is started anew, and tells others (no secret is among them).
SERVICE_SETTINGS = (
    "port",
    "account_id",
    "address_range",
    "overcommit",
    "redis_stand_in",
    "log_level",
    "hang_timeout",
    "rollback_hours",
    "sync_timeout",
    "metrics_fine_days",
    "metrics_middle_days",
    "metrics_days",
    "smtp_sender",
    "machine_usd_month",
    "tls",
    "certificate_hours",
    "allowed_sources",
    "encrypted_state",
    "buckets",
    "snapshots_per_day",
    "quotas",
    "api_rate",
    "serverless_tls",
    "serverless_headroom_mb",
    "serverless_shard_mb",
    "serverless_calm",
    "update_next_major",
    "logs_endpoint",
    "auth_without_tls",
)
# Those that nobody is told.
SECRET_SETTINGS = frozenset({"access_keys", "smtp_url", "logs_access_key", "firehose_url", "firehose_access_key"})
# Where each setting comes from besides the file; AWS_REGION is what AWS clients use already.
ENVIRONMENT = {f.name: f"CACHEKEEP_{f.name.upper()}" for f in fields(Settings)}


def load(options: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from options that are not None, then the environment, then the file, then the defaults.

    Raises SettingsError for anything unknown or out of bounds.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {}
    config = environment.get("CACHEKEEP_CONFIG")
    if config:
        values |= _from_file(Path(config))
    for name, variable in ENVIRONMENT.items():
        if environment.get(variable):
            values[name] = environment[variable]
    values |= {name: value for name, value in (options or {}).items() if value is not None}
    return Settings(**{name: _typed(name, value) for name, value in values.items()})  # type: ignore[arg-type]


def _from_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"CACHEKEEP_CONFIG: cannot read {path}: {error}") from None
    unknown = sorted(set(values) - set(ENVIRONMENT))
    if unknown:
        raise SettingsError(f"{path}: unknown settings {', '.join(unknown)}; known are {', '.join(ENVIRONMENT)}")
    return values


def _typed(name: str, value: object) -> object:
    try:
        match name:
            case "state_dir":
                return Path(str(value)).expanduser().absolute()
            case "snapshots_per_day" | "port" | "metrics_fine_days" | "metrics_middle_days" | "metrics_days":
                return _number(value, int)
            case (
                "overcommit"
                | "hang_timeout"
                | "rollback_hours"
                | "sync_timeout"
                | "machine_usd_month"
                | "certificate_hours"
                | "api_rate"
                | "serverless_headroom_mb"
                | "serverless_shard_mb"
                | "serverless_calm"
            ):
                return _number(value, float)
            case "redis_stand_in" | "tls" | "encrypted_state" | "update_next_major" | "auth_without_tls":
                return _boolean(value)
            case "access_keys":
                return _access_keys(value)
            case "buckets":
                return _buckets(value)
            case "quotas" if isinstance(value, Mapping):  # a table of the file
                return ",".join(f"{name}={amount}" for name, amount in value.items())
            case _:
                return str(value)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def source_networks(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8, 127.0.0.1` -> networks. Raises SettingsError with the part that is none."""
    found: list[Network] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise SettingsError(f"allowed_sources must be addresses or networks (CIDR): {error}") from None
    return tuple(found)


def smtp_of(url: str, sender: str) -> Smtp | None:
    """None for "". Raises SettingsError, whose text never has the password."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError("smtp_url: the address or the port in it cannot be read") from None
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or set(asked) - {"starttls", "ca_file"}:
        raise SettingsError("smtp_url must be smtp(s)://host:port, with ?starttls=no or ?ca_file=PATH where needed")
    if asked.get("starttls", "yes") not in ("yes", "no"):
        raise SettingsError("smtp_url: starttls must be yes or no")
    tls = parts.scheme == "smtps"
    return Smtp(
        parts.hostname,
        port or (465 if tls else 587),
        sender,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        tls,
        not tls and asked.get("starttls", "yes") == "yes",
        asked.get("ca_file", ""),
    )


def _number(value: object, kind: type[int] | type[float]) -> float:
    try:
        return kind(str(value))
    except ValueError:
        raise ValueError(f"must be a number, not {value!r}") from None


def _boolean(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError(f"must be true or false, not {value!r}")
    return words[str(value).lower()]


def _access_keys(value: object) -> dict[str, str]:
    """`id:secret,id:secret`. Errors never repeat a secret."""
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    keys: dict[str, str] = {}
    for number, pair in enumerate(filter(None, (p.strip() for p in str(value).split(","))), 1):
        name, colon, secret = pair.partition(":")
        if not colon or not name or len(secret) < 8:
            raise ValueError(f"pair {number} must be id:secret with a secret of at least 8 characters")
        keys[name] = secret
    return keys


def _buckets(value: object) -> str:
    """A table of the file becomes the text that the environment has."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={place}" for name, place in value.items())
    return str(value)


def _places_of(text: str) -> dict[str, str]:
    """`name=/folder,name=s3://bucket/prefix`; file:///folder is a folder, too. Raises SettingsError."""
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, place = pair.partition("=")
        folder = place.removeprefix("file://")
        if not _BUCKET.match(name) or not (place.startswith("s3://") or Path(folder).is_absolute()):
            raise SettingsError(f"buckets must be NAME=/FOLDER or NAME=s3://BUCKET/PREFIX, not {pair}")
        found[name] = folder
    return found
