#!/bin/sh
# Installs Debian packages without starting their services: as root with apt, otherwise unpacked below FOLDER/root.
# usage: install.sh FOLDER PACKAGE...
set -eu

folder=$1
shift
policy=/usr/sbin/policy-rc.d
saved=$policy.before-kopilka
log=$folder/install.log

fail() {
    echo "kopilka: $*" >&2
    exit 1
}

# Debian starts a server as soon as it is installed, unless this file forbids it. A machine's own file is restored.
forbid_starts() {
    if { [ -e "$policy" ] || [ -L "$policy" ]; } && ! grep -q kopilka "$policy"; then
        mv "$policy" "$saved"
    fi
    printf '#!/bin/sh\n# kopilka: no service starts while its package is installed\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

allow_starts() {
    rm -f "$policy"
    if [ -e "$saved" ] || [ -L "$saved" ]; then mv "$saved" "$policy"; fi
}

install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --no-upgrade \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1 9>&-
}

as_root() {
    exec 9>/var/lock/kopilka-install
    flock -w 600 9 || fail "another installation has run for ten minutes. Let it end, then try again."
    trap allow_starts EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    forbid_starts
    # Missing or outdated package lists are the usual reason of a failure, and updating them takes long.
    install_packages "$@" || { apt-get update -qq >>"$log" 2>&1 9>&- && install_packages "$@"; } || {
        tail -n 20 "$log" >&2
        fail "apt could not install $*."
    }
    if [ -d /run/systemd/system ]; then
        echo "kopilka: installed $*; not started, and not needed as system services:"
        echo "kopilka: 'systemctl disable postgresql rabbitmq-server redis-server' keeps them off after a reboot."
    fi
}

# Without root: the packages and their missing dependencies are unpacked in place.
unpack() {
    mkdir -p "$folder/packages" "$folder/root"
    lists=
    if ! apt-cache show "$1" >/dev/null 2>&1; then
        mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
        lists="-o Dir::State::lists=$folder/apt/lists -o Dir::Cache=$folder/apt/cache -o Debug::NoLocking=1"
        # shellcheck disable=SC2086
        apt-get $lists update -qq >>"$log" 2>&1 || fail "apt could not read the package lists: $(tail -n 3 "$log")"
    fi
    # shellcheck disable=SC2086
    missing=$(apt-get $lists -s install --no-install-recommends "$@" 2>>"$log" | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    [ -n "$missing" ] || fail "apt finds no way to get $*: $(tail -n 3 "$log")"
    # shellcheck disable=SC2086
    (cd "$folder/packages" && rm -f ./*.deb && apt-get $lists download $missing) >>"$log" 2>&1 ||
        fail "apt could not download the packages: $(tail -n 3 "$log")"
    # In apt's order, the requested packages last: an interrupted run is not mistaken for a complete one.
    for package in $missing; do
        dpkg -x "$folder/packages/$package"_*.deb "$folder/root"
    done
    # Debian's start script of Erlang has its directory built in, and no environment variable changes it.
    for erl in "$folder"/root/usr/lib/erlang/bin/erl "$folder"/root/usr/lib/erlang/erts-*/bin/erl; do
        [ ! -f "$erl" ] || sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=\"$folder/root/usr/lib/erlang\"|" "$erl"
    done
}

mkdir -p "$folder"
command -v apt-get >/dev/null || fail "this machine has no apt. Install the equivalents of these yourself: $*"
if [ "$(id -u)" = 0 ]; then as_root "$@"; else unpack "$@"; fi
