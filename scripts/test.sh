#!/usr/bin/env bash
# The whole suite, cheapest first: verify (lint, types, unit, contract, house rules), end to end, Python.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$1"; }
# `make setup` does this once; a machine that was set up earlier may still lack what was added since.
command -v redis-server >/dev/null || bash scripts/preflight.sh
step "the S3 server of the tests"
bash scripts/s3-server.sh
step "verify: format, lint, types, unit, contract and house-rule tests"
npm run --silent verify
step "podman, for the test that builds the image"
bash scripts/podman.sh
step "end to end: the real command, server and handlers; beside it the Python tests, which are shown after it"
# Both mostly wait for processes. Numeric libraries need no threads of theirs beside test processes.
python_log=$(mktemp)
processes=$(($(getconf _NPROCESSORS_ONLN) / 2))
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python -m pytest -q -n "$((processes > 0 ? processes : 1))" --dist loadfile \
  python/tests examples >"$python_log" 2>&1 &
python=$!
e2e_log=$(mktemp)
trap 'kill "$python" 2>/dev/null; rm -f "$python_log" "$e2e_log"' EXIT
code=0
npm run --silent test:e2e 2>&1 | tee "$e2e_log" || code=$?
step "Python: the sluice package"
wait "$python" || code=$?
cat "$python_log"
if grep -q 'Failed Tests\|Failed Suites\|Unhandled Error' "$e2e_log"; then
  step "end to end, once more: what failed"
  sed -n '/Failed Tests\|Failed Suites\|Unhandled Error/,$p' "$e2e_log"
fi
exit "$code"
