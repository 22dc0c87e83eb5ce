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
step "end to end: the real command, server and handlers"
npm run --silent test:e2e
step "Python: the sluice package"
# One process for each core, each with servers of its own; numeric libraries then need no threads of theirs beside them.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
.venv/bin/python -m pytest -q -n auto --dist loadfile python/tests examples
