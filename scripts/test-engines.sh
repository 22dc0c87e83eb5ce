#!/usr/bin/env bash
# Tests inference engines that others wrote, as processes: a FastAPI application under uvicorn, and MLServer. They are installed
# in a virtual environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$PWD/node_modules/.cache/engines
say() { printf 'test-engines: %s\n' "$1"; }

if [ ! -e "$environment/complete" ] || [ scripts/test-engines.sh -nt "$environment/complete" ]; then
  say "installing FastAPI and MLServer: a minute, once"
  test -x "$environment/bin/python" || "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check fastapi uvicorn mlserver
  touch "$environment/complete"
fi
"$environment/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -iE '^(fastapi|uvicorn|mlserver) '

# The package `node` among the development packages is the Node that everything here runs on.
export PATH="$PWD/node_modules/.bin:$PATH"
SLUICE_TEST_ENGINES=$environment vitest run --config test/engines/vitest.config.ts "$@"
