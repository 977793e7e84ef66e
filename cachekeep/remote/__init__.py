"""Connections to endpoints that speak RESP, wherever they run. Implements domain.remote.

Door: `open.open_remote`, called by composition roots. Below it: `url` (what is asked for), `tls`
(whom to trust), `dial` (a socket), `connection` (bytes and replies), `handshake` (getting in), `trouble`
(what went wrong, as a sentence), `secret` (passwords in files).
"""
