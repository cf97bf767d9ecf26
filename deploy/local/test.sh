#!/bin/bash
# Runs the tests on real servers and ends with pytest's own summary.
# usage: test.sh [pytest arguments]     with arguments (a part of the tests) coverage is not measured
# Most tests wait for servers and processes, so two for each core run at once.
set -uo pipefail
cd "$(dirname "$0")/../.."

# Settings of a shell that has exported .run/env would point the tests at that stack.
while read -r name; do
    unset "$name"
done < <(compgen -e | grep -E '^(GATEWAY|KOPILKA|LEDGER|NOTIFIER|ORDERS|PAYMENTS|SANDBOX)_' \
    | grep -vE '^KOPILKA_(STATE_SEED|FUZZ_[A-Z]+)$')

# Compiled modules halve the start of pytest's processes, and of each process of the product that a test starts.
unset PYTHONDONTWRITEBYTECODE

bin=$PWD/.venv/bin
output=.run/pytest.log
summary=.run/pytest-summary
servers="python3 deploy/local/servers.py"

# Servers that this run starts are stopped at its end; others keep running.
$servers status >/dev/null 2>&1 || trap '$servers down' EXIT
if [ $# -eq 0 ]; then
    # While the servers start: pytest compiles the tests once, instead of in each of its processes.
    "$bin/python" -m pytest --collect-only -q >/dev/null 2>&1 &
fi
$servers up >&2 || exit 1
wait
addresses=$($servers env) || exit 1
set -a
eval "$addresses"
set +a

if [ $# -gt 0 ]; then
    "$bin/python" -m pytest "$@"
    exit
fi

"$bin/coverage" erase
"$bin/coverage" run -m pytest --numprocesses=$((2 * $(nproc))) --maxprocesses=8 2>&1 | tee "$output"
code=${PIPESTATUS[0]}
"$bin/coverage" combine -q && "$bin/coverage" report
covered=$?
# Print pytest's summary again, with its list of failures, because coverage has printed its table in between.
awk '/^=+ short test summary info =+$/ { list = ""; inside = 1 }
     /^=+ .* in [0-9.]+s/ { last = list $0; inside = 0; list = "" }
     inside { list = list $0 "\n" }
     END { print last }' "$output" >"$summary"
echo
cat "$summary"
exit $((code != 0 ? code : covered))
