#!/usr/bin/env bash
# The whole suite, cheapest first: verify (lint, types, unit, contract, house rules), end to end, Python.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$1"; }
step "verify: format, lint, types, unit, contract and house-rule tests"
npm run --silent verify
step "end to end: the real command, server and handlers"
npm run --silent test:e2e
step "Python: the sluice package"
.venv/bin/python -m pytest -q python/tests examples
