#!/bin/sh
# Builds .venv from the locks, with our packages installed in place. Does nothing when its inputs have not changed.
set -eu
cd "$(dirname "$0")/../.."

wait_s=900
stamp=.venv/.built-from

fail() {
    echo "kopilka: $*" >&2
    exit 1
}

suits() {
    command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The system's Python first: its distribution patches it, and builds it with profile-guided optimisation, without which
# the product takes about a quarter more CPU time.
find_python() {
    for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if suits "$python"; then return; fi
    done
    fail "Python 3.11 or newer is needed. On Debian 12: apt-get install python3"
}

# Debian packages venv and pip separately from Python.
ensure_venv() {
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    [ "$(id -u)" = 0 ] || fail "$python can't build virtual environments. Install python3-venv and python3-pip."
    deploy/local/install.sh "$PWD/.run/debs" python3-venv python3-pip
    "$python" -c 'import ensurepip, venv' || fail "$python still can't build virtual environments: install its venv."
}

members() {
    for member in libs/* services/* apps/*; do
        if [ -f "$member/pyproject.toml" ]; then echo "$member"; fi
    done
}

# The path is an input too: a copied checkout would run the programs of the original.
sources() {
    echo "$PWD $version"
    cat requirements.lock requirements-dev.lock
    for member in $(members); do
        echo "$member"
        cat "$member/pyproject.toml"
    done
}

build() {
    if ! grep -qsxF "path=$PWD" "$stamp" || ! grep -qsxF "python=$version" "$stamp" || ! .venv/bin/python -c '' 2>/dev/null; then
        "$python" -m venv --clear .venv
    fi
    printf '%s\n' "path=$PWD" "python=$version" >"$stamp" # the steps below may fail and be repeated without a new virtual environment
    pip="$PWD/.venv/bin/python -m pip --disable-pip-version-check --no-input"
    $pip install -q --require-hashes -r requirements.lock -r requirements-dev.lock
    editables=
    for member in $(members); do editables="$editables -e $member"; done
    # shellcheck disable=SC2086
    $pip install -q --no-deps --no-build-isolation $editables
    echo "sum=$sum" >>"$stamp"
}

command -v flock >/dev/null || fail "flock is needed. On Debian: apt-get install util-linux"
mkdir -p .run
exec 9>.run/setup.lock
flock -w "$wait_s" 9 || fail "another setup has run for $wait_s s. Let it end, then try again."
find_python
version=$("$python" -c 'import sys; print(sys.executable, sys.version)' | tr '\n' ' ')
sum=$(sources | sha256sum)
if grep -qsxF "sum=$sum" "$stamp"; then exit 0; fi
echo "building .venv (about a minute) ..."
ensure_venv
# Its output is shown only when it fails: pip has much to say about packages that build well.
log=.run/setup.log
build 9>&- >"$log" 2>&1 &
wait "$!" || {
    cat "$log" >&2
    fail "building .venv failed; the output above is in $log"
}
