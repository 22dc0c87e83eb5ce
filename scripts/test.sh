#!/usr/bin/env bash
# The whole suite, cheapest first: lint, types, unit, contract, house rules; then end to end beside Python. What failed is
# run once more, alone and with the same seed.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$1"; }
export SLUICE_TEST_SEED=${SLUICE_TEST_SEED:-$((1 + ((RANDOM << 15) | RANDOM) % 1000000000))}
printf 'test: SLUICE_TEST_SEED=%s make test runs the same random tests again\n' "$SLUICE_TEST_SEED"
# Without it every Python process compiles this project's own modules anew.
unset PYTHONDONTWRITEBYTECODE
work=$(mktemp -d)
python=
trap 'kill $python 2>/dev/null || true; rm -rf "$work"' EXIT
source scripts/second-run.sh
# `make setup` does this once; a machine that was set up earlier may still lack what was added since.
command -v redis-server >/dev/null || bash scripts/preflight.sh
step "the S3 server of the tests"
bash scripts/s3-server.sh
step "verify: format, lint, types, unit, contract and house-rule tests"
npm run --silent lint
npm run --silent types
first_vitest unit || second_vitest unit || exit 1
step "podman, for the test that builds the image"
bash scripts/podman.sh
step "end to end: the real command, server and handlers; beside it the Python tests, which are shown after it"
# Both mostly wait for processes. Numeric libraries need no threads of theirs beside test processes.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
processes=$(($(getconf _NPROCESSORS_ONLN) / 2))
first_pytest -n "$((processes > 0 ? processes : 1))" --dist loadfile python/tests examples >"$work/python.log" 2>&1 &
python=$!
failed=
first_vitest e2e 2>&1 | tee "$work/e2e.log" || failed="e2e"
step "Python: the sluice package"
wait "$python" || failed+=" python"
python=
cat "$work/python.log"
if grep -q 'Failed Tests\|Failed Suites\|Unhandled Error' "$work/e2e.log"; then
  step "end to end: what failed"
  sed -n '/Failed Tests\|Failed Suites\|Unhandled Error/,$p' "$work/e2e.log"
fi
code=0
for part in $failed; do
  if [ "$part" = e2e ]; then second_vitest e2e || code=1; else second_pytest python/tests examples || code=1; fi
done
tell_flaky
exit "$code"
