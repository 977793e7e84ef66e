#!/bin/sh
# Makes .venv with exactly the locked versions, every file checked against its hash, and the project editable in it.
# Usage: scripts/install.sh run|dev. Called by make, which looks at the stamp that is written last.
set -eu
cd "$(dirname "$0")/.."
what=$1

say() { printf '%s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "Cachekeep needs Python 3.11 or newer: none of python3, python3.13, python3.12, python3.11 is one." \
        "On Debian 12, Ubuntu 24.04 or newer: apt install python3 python3-venv"
}

# Debian keeps ensurepip, without which a venv has no pip, in a package of its own.
install_venv_package() {
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        fail "This Python ($1) cannot make a venv with pip: its module ensurepip is missing." \
            "As root: apt-get install $package (Debian, Ubuntu), then make again."
    fi
    say "installing $package"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >&2
}

make_venv() {
    python=$(find_python)
    say "making .venv with $("$python" --version) ($python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_package "$python"
    rm -rf .venv
    "$python" -m venv .venv
}

# A venv that was broken off, moved here from elsewhere, or whose Python is gone, is made anew.
is_whole() { [ -x .venv/bin/pip ] && is_new_enough .venv/bin/python && .venv/bin/pip --version >/dev/null 2>&1; }

pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

is_whole || make_venv
say "installing requirements/$what.txt"
pip_install --require-hashes -r "requirements/$what.txt"
pip_install --require-hashes -r requirements/build.txt
pip_install --no-build-isolation --no-deps --editable .
touch ".venv/.$what"
