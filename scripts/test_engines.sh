#!/bin/sh
# Sees to the engines that the tests want beside those of the wheels: redis-server and memcached. On Debian as root
# they are installed, without being started; elsewhere it says what is missing, and the tests for it are skipped.
set -eu

policy=/usr/sbin/policy-rc.d
made_policy=

say() { printf '%s\n' "$*" >&2; }

is_there() {
    for folder in $(printf '%s' "$PATH" | tr ':' ' ') /usr/bin /usr/local/bin /usr/sbin; do
        [ -x "$folder/$1" ] && return 0
    done
    return 1
}

missing() {
    for program in redis-server memcached; do
        is_there "$program" || printf '%s ' "$program"
    done
}

clean_up() { [ -z "$made_policy" ] || rm -f "$policy"; }

# Debian starts a service as soon as it is installed, unless policy-rc.d says no (101: action forbidden).
forbid_starting() {
    [ ! -e "$policy" ] || return 0
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

install() {
    say "installing for the tests: $*"
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    forbid_starting
    # RUNLEVEL=1: a policy-rc.d that was there already may ask for the run level.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive sh -c '
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' sh "$@" >&2 ||
        say "apt-get could not install them"
    clean_up
    made_policy=
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    # shellcheck disable=SC2086 - a list of names
    install $wanted
    wanted=$(missing)
fi
if [ -n "$wanted" ]; then
    say "*****************************************************************************"
    say "* NOT ON THIS MACHINE: $wanted"
    say "* The tests that need them will be SKIPPED. To run them, as root:"
    say "*   apt-get install $wanted   (macOS: brew install redis memcached)"
    say "*****************************************************************************"
fi
