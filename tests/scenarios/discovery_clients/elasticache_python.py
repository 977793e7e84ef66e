"""django-elastipymemcache and elasticache-auto-discovery at a configuration endpoint: stores and reads 40 keys, tells
the nodes and what was read as one line of JSON; again after each line on standard input."""

from __future__ import annotations

import json
import sys

import django
from django.conf import settings
from django_elastipymemcache.client import AWSElastiCacheClient
from elasticache_auto_discovery import discover

settings.configure()
django.setup()
endpoint = sys.argv[1]
client = AWSElastiCacheClient(endpoint, discovery_interval=0.2, timeout=5, connect_timeout=5)
while True:
    for number in range(40):
        client.set(f"py{number}", str(number).encode())
    found = sum(client.get(f"py{number}") == str(number).encode() for number in range(40))
    other = sorted(f"{ip.decode()}:{int(port)}" for _, ip, port in discover(endpoint, 5))
    print(json.dumps({"nodes": sorted(client.clients), "discovered": other, "found": found}), flush=True)
    if not sys.stdin.readline():
        break
