#!/usr/bin/env bash
# Tests the frameworks whose wheels are too large for `make test`, in a virtual environment of their own: with the wheels of
# PyTorch for the CPU where its index can be reached, which is a tenth of what PyPI's bring along.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$PWD/node_modules/.cache/frameworks
say() { printf 'test-frameworks: %s\n' "$1"; }

if [ ! -e "$environment/complete" ] || [ python/pyproject.toml -nt "$environment/complete" ]; then
  say "installing PyTorch, CatBoost and TensorFlow: minutes, once"
  test -x "$environment/bin/python" || "${PYTHON:-python3}" -m venv "$environment"
  install=("$environment/bin/python" -m pip install --quiet --disable-pip-version-check)
  if [ "$(uname)" = Linux ] && ! "$environment/bin/python" -c 'import torch' 2>/dev/null; then
    "${install[@]}" torch --index-url https://download.pytorch.org/whl/cpu 2>/dev/null || say "PyPI's PyTorch, with CUDA"
  fi
  "${install[@]}" -e "python[large-frameworks]"
  touch "$environment/complete"
fi
say "$(du -sh "$environment" | cut -f1) in $environment"
"$environment/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -iE '^(torch|catboost|tensorflow|keras|safetensors|numpy)' || true
SLUICE_TEST_FRAMEWORKS=1 "$environment/bin/python" -m pytest -v --tb=short python/tests/models/test_model_large_frameworks.py "$@"
