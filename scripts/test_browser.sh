#!/bin/sh
# Sees to the browser that the tests of the dashboard want: Chromium and its driver. On Debian as root they are
# installed; elsewhere it says what is missing, and those tests are skipped.
set -eu

say() { printf '%s\n' "$*" >&2; }

is_there() { command -v "$1" >/dev/null 2>&1; }

missing() {
    is_there chromedriver || return 0
    is_there chromium || is_there chromium-browser || is_there google-chrome || return 0
    return 1
}

missing || exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing for the tests: chromium chromium-driver"
    DEBIAN_FRONTEND=noninteractive sh -c '
        apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core
        ' >&2 || say "apt-get could not install them"
fi
if missing; then
    say "*****************************************************************************"
    say "* NOT ON THIS MACHINE: chromium and chromedriver"
    say "* The tests of the dashboard in a browser will be SKIPPED. To run them, as root:"
    say "*   apt-get install chromium chromium-driver"
    say "*****************************************************************************"
fi
