#!/usr/bin/env bash
# Schemathesis over /openapi.json with other requests in each run: `bash scripts/test-openapi.sh [ROUNDS [SEED]]`, by default 20
# rounds from a random seed. $SLUICE_TEST_STORE is the address of another store than the embedded one.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-20}
seed=${2:-$(((RANDOM << 15) | RANDOM))}
printf 'test-openapi: %s rounds from the seed %s; again: bash scripts/test-openapi.sh %s %s\n' "$rounds" "$seed" "$rounds" "$seed"
SLUICE_TEST_ROUNDS=$rounds SLUICE_TEST_SEED=$seed .venv/bin/python -m pytest -q -s python/tests/test_openapi_live.py
