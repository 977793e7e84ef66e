"""The dashboard: server-rendered pages under `/ui`, over ports only (web.ports); `routes.build` puts them together."""

from cachekeep.web.routes import build, loopback_hosts

__all__ = ["build", "loopback_hosts"]
